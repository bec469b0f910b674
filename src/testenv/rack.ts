/**
 * How the effects of a TE's life are done on this host: open (H-1.14), extend, fence (step 1 of
 * te-host.md §8), remove. Secrets of a lease lie in one file of mode 0600 until its fence. What
 * the reset does is reset.ts'; what to do when is life.ts'.
 */
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { isoTime } from "../base/clock.ts";
import type { Clock } from "../base/clock.ts";
import { readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import type { Hypervisor, PortRule } from "../hypervisor/hypervisor-port.ts";
import type { ImageStore } from "../image/content-store.ts";
import type { SshKeyPair } from "../ssh/keys.ts";
import { testenvDataSchema } from "../model/testenv.ts";
import type { TestenvData } from "../model/testenv.ts";
import type { Gate } from "./gate/gate.ts";
import { lastPower } from "./power.ts";
import type { RackPort } from "./rack-port.ts";
import { openTerms } from "./testenv-state.ts";
import type { Deadline, Terms, Testenv } from "./testenv-state.ts";
import { accountName, seedRule } from "./parts.ts";
import type { TestenvParts } from "./parts.ts";
import { makeRecordFolder } from "./recorder/recorder.ts";
import type { LeaseRecord, RecordedGrant, Recorder } from "./recorder/recorder.ts";
import { buildTeData } from "./te-data.ts";

/** The shared bridge's rules as a whole, set entry by entry; racks and nodes have theirs. */
export type RuleBook = {
  /** Replaces the rule of its tap; holds in the switch when it returns. */
  set(rule: PortRule): Promise<void>;
  remove(tap: string): Promise<void>;
};

export type RackTools = {
  readonly hypervisor: Hypervisor;
  readonly rules: RuleBook;
  readonly gate: Pick<Gate, "open" | "close" | "settled" | "facts">;
  readonly images: Pick<ImageStore, "find" | "pathOf">;
  readonly recorder: Recorder;
  readonly takeKey: () => Promise<SshKeyPair>;
  readonly clock: Clock;
  /** This boot and cell: deadlines of another are past. */
  readonly world: string;
  readonly host: {
    readonly id: string;
    readonly name: string;
    readonly sshPort: number;
    /** Public half of the gate's host key. */
    readonly sshHostKey: string;
  };
  /** `<state>/te/keys`. */
  readonly secretsFolder: string;
  readonly partsOf: (te: Pick<Testenv, "number" | "kind">) => TestenvParts;
};

export type Rack = Omit<RackPort, "reset"> & {
  /** The time line of the lease that the TE is in, or whose reset runs. */
  record(te: Testenv): LeaseRecord | undefined;
  /** The key that the present lease was given, `type base64`. */
  publicKey(te: Testenv): Promise<string | undefined>;
};

export function openRack(tools: RackTools): Rack {
  const { hypervisor, gate, clock } = tools;
  const secrets = (number: number): string =>
    join(tools.secretsFolder, `${accountName(number)}.json`);

  function record(te: Testenv): LeaseRecord | undefined {
    const { phase } = te;
    const terms = "terms" in phase ? phase.terms : null;
    return terms ? tools.recorder.open(grantOf(te, terms)) : undefined;
  }

  async function install(
    te: Testenv,
    terms: Terms,
    deadline: Deadline,
    key: Pick<SshKeyPair, "publicKey">,
  ): Promise<void> {
    await gate.open({
      number: te.number,
      lease: terms.lease,
      epoch: terms.epoch,
      publicKey: key.publicKey,
      expiresAtMs: Date.parse(deadline.at),
      from: terms.holderAddresses,
    });
  }

  return {
    record,
    async open(te, terms, signal) {
      const parts = tools.partsOf(te);
      await makeRecordFolder(tools.recorder, grantOf(te, terms));
      const [key] = await Promise.all([
        tools.takeKey(),
        tools.rules.set(seedRule(parts, terms.holderAddresses)),
      ]);
      const spanMs = terms.durationMs + limits.deadlineSlackMs;
      const deadline = {
        bootId: tools.world,
        monoMs: clock.monoMs() + spanMs,
        at: isoTime(clock.wallMs() + spanMs),
      };
      const data = buildTeData({
        parts,
        hostIp: hypervisor.testNetwork.hostIp,
        hostName: tools.host.name,
        mtu: hypervisor.testNetwork.mtu,
        ssh: {
          user: accountName(te.number),
          port: tools.host.sshPort,
          privateKey: key.privateKey,
          hostKey: tools.host.sshHostKey,
        },
        lease: { id: terms.lease, epoch: terms.epoch, expiresAt: deadline.at },
      });
      const kept = JSON.stringify({ publicKey: key.publicKey, data });
      signal.throwIfAborted();
      await writeFileAtomic(secrets(te.number), kept, 0o600);
      signal.throwIfAborted();
      await install(te, terms, deadline, key);
      const { holderName, holderAddresses, durationMs } = terms;
      record(te)?.write("prepare", { holderName, holderAddresses, durationMs, until: deadline.at });
      return deadline;
    },
    async extend(te, terms, deadline) {
      const kept = await readSecrets(secrets(te.number));
      if (!kept) return; // fenced meanwhile
      const { data, publicKey } = kept;
      const lease = { ...(data["lease"] as object), expires: deadline.at };
      const changed = JSON.stringify({ publicKey, data: { ...data, lease } });
      await writeFileAtomic(secrets(te.number), changed, 0o600);
      await install(te, terms, deadline, kept);
      record(te)?.write("extend", { until: deadline.at });
    },
    async fence(te) {
      // Side by side, and none in another's way: a switch that does not answer keeps no key alive.
      const closed = await Promise.allSettled([
        gate.close(te.number),
        tools.rules.set(seedRule(tools.partsOf(te), [])),
        rm(secrets(te.number), { force: true }),
      ]);
      for (const one of closed) if (one.status === "rejected") throw one.reason;
      const { phase } = te;
      record(te)?.write("fence", { reason: "reason" in phase ? phase.reason : phase.state });
    },
    async remove(te) {
      const parts = tools.partsOf(te);
      await gate.close(te.number);
      const found = await hypervisor.domains.list();
      for (const { uuid, mark } of found) {
        if (mark?.kind !== "machine" || mark.te !== te.number) continue;
        await hypervisor.domains.destroy(uuid);
        await hypervisor.domains.undefine(uuid);
      }
      for (const { disk } of parts.all) await hypervisor.disks.remove(disk.path);
      await hypervisor.bridges.remove(parts.bridge);
      await tools.rules.remove(parts.seed.spec.nics[0]!.tap);
      await hypervisor.testNetwork.unreserve(parts.seed.spec.nics[0]!.mac);
    },
    async data(te) {
      if (!openTerms(te)) return undefined;
      return (await readSecrets(secrets(te.number)))?.data;
    },
    async publicKey(te) {
      return (await readSecrets(secrets(te.number)))?.publicKey;
    },
    power: (te) => lastPower(hypervisor, tools.partsOf(te)),
    console(te, machine) {
      const found = tools.partsOf(te).all.find(({ name }) => name === machine);
      return found?.spec.consoleLog;
    },
  };
}

const grantOf = (te: Testenv, { lease, epoch }: Terms): RecordedGrant => ({
  lease,
  testenv: te.number,
  epoch,
});

type Secrets = { readonly publicKey: string; readonly data: TestenvData };

async function readSecrets(path: string): Promise<Secrets | undefined> {
  const text = await readTextIfAny(path);
  if (text === undefined) return undefined;
  const { publicKey, data } = JSON.parse(text) as { publicKey: string; data: unknown };
  return { publicKey, data: testenvDataSchema.parse(data) };
}

/** Folders that a rack's work needs; secrets in one that nobody else may enter. */
export async function makeRackFolders(folders: {
  secrets: string;
  disks: string;
  consoles: string;
}): Promise<void> {
  await mkdir(folders.secrets, { recursive: true, mode: 0o700 });
  await mkdir(folders.disks, { recursive: true, mode: 0o700 });
  await mkdir(folders.consoles, { recursive: true, mode: 0o700 });
}
