/**
 * Who this host is (H-1.5): its random UUID, the key that signs its certificates, the gate's
 * host key, and the number of its sessions. Made at the first start; keys lie in files of mode
 * 0600, the rest in te-host.db. And which world it lives in: one boot, one cell.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { join } from "node:path";
import { systemClock } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import { systemRandom } from "../../base/random.ts";
import { keptHostKey } from "../../ssh/keys.ts";
import type { SshKeyPair } from "../../ssh/keys.ts";
import type { Store } from "../../store/store.ts";

export type Identity = {
  readonly hostId: string;
  /** Secret: machines' MACs are made of it. */
  readonly macKey: string;
  readonly certificateKey: KeyObject;
  /** SPKI PEM, for the broker. */
  readonly certificatePublicKey: string;
  readonly sshHostKey: SshKeyPair;
  /** Counted up durably before it is used. */
  nextSessionNumber(): Promise<number>;
};

export async function openIdentity(store: Store, keysFolder: string): Promise<Identity> {
  const certificateKey = await keptCertificateKey(join(keysFolder, "certificate_ed25519.pem"));
  return {
    hostId: await keptFact(store, "host-id", () => systemRandom.uuid4()),
    macKey: await keptFact(store, "mac-key", () => systemRandom.bytes(32).toString("hex")),
    certificateKey,
    certificatePublicKey: createPublicKey(certificateKey)
      .export({ type: "spki", format: "pem" })
      .toString(),
    sshHostKey: await keptHostKey(join(keysFolder, "ssh_host_ed25519_key"), "rackyard gate"),
    async nextSessionNumber() {
      // Read before the transaction: the store has one connection, which that one takes.
      const number = Number((await store.fact("session-number")) ?? 0) + 1;
      await store.transaction((tx) =>
        store.setFact(tx, "session-number", String(number), Date.now()),
      );
      return number;
    },
  };
}

/** What `plan` shows where nothing was ever started: an identity that is not kept. */
export async function knownHostId(store: Store): Promise<string | undefined> {
  return store.fact("host-id");
}

export async function knownMacKey(store: Store): Promise<string | undefined> {
  return store.fact("mac-key");
}

export type World = {
  readonly id: string;
  /** Another than the last agent's: what it had running is gone. */
  readonly isNew: boolean;
  /** To be called when everything has been told; until then the next agent finds it new again. */
  keep(): Promise<void>;
};

/**
 * The world this agent lives in: a file in the cell's own /run dies with the cell and with the
 * boot, and so does what ran in it.
 */
export async function enterWorld(store: Store): Promise<World> {
  const path = "/run/rackyard-gate/world";
  const here = (await readTextIfAny(path))?.trim();
  const before = await store.fact("world");
  if (here !== undefined && here === before) {
    return { id: here, isNew: false, keep: () => Promise.resolve() };
  }
  const id = systemRandom.uuid4();
  return {
    id,
    isNew: true,
    async keep() {
      await store.transaction((tx) => store.setFact(tx, "world", id, Date.now()));
      await writeFileAtomic(path, `${id}\n`);
    },
  };
}

/** Monotonic time of the machine, the same for every process of one boot. */
export const hostClock: Clock = {
  wallMs: () => systemClock.wallMs(),
  monoMs: () => Number(process.hrtime.bigint() / 1_000n) / 1_000,
  after: (delayMs, callback) => systemClock.after(delayMs, callback),
};

async function keptFact(store: Store, name: string, make: () => string): Promise<string> {
  const kept = await store.fact(name);
  if (kept !== undefined) return kept;
  const made = make();
  await store.transaction((tx) => store.setFact(tx, name, made, Date.now()));
  return made;
}

async function keptCertificateKey(path: string): Promise<KeyObject> {
  const kept = await readTextIfAny(path);
  if (kept !== undefined) return createPrivateKey(kept);
  const { privateKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  await writeFileAtomic(path, pem, 0o600);
  return privateKey;
}
