import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../base/command.ts";
import {
  controlArgs,
  gitSshCommand,
  knownHostsLine,
  remotePath,
  scpArgs,
  sshArgs,
} from "./client.ts";
import { fingerprint, opensshPrivateKey, publicKeyLine } from "./key-codec.ts";
import { keptHostKey, makeEd25519Key, makeRsaKey } from "./keys.ts";
import { authorizedKeyLine, sshdConfig } from "./sshd.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-ssh-"));
});
afterEach(() => rm(directory, { recursive: true }));

const pkcs8 = (hex: string) =>
  createPrivateKey({
    key: Buffer.from(`302e020100300506032b657004220420${hex}`, "hex"),
    format: "der",
    type: "pkcs8",
  });

test("H-6.4 golden: an Ed25519 key in OpenSSH's form (RFC 8032 test 1)", () => {
  const key = pkcs8("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
  expect(publicKeyLine(key)).toBe(
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea",
  );
  const bytes = Buffer.from(
    opensshPrivateKey(key, "c").split("\n").slice(1, -2).join(""),
    "base64",
  );
  expect(bytes.subarray(0, 15).toString("latin1")).toBe("openssh-key-v1\0");
});

test("H-6.4 ssh-keygen reads our keys and finds the same public half", async () => {
  for (const made of [await makeEd25519Key("node"), await makeRsaKey()]) {
    const path = join(directory, "key");
    await writeFile(path, made.privateKey, { mode: 0o600 });
    const { stdout } = await run("ssh-keygen", ["-y", "-f", path]);
    expect(stdout.trim().split(" ").slice(0, 2).join(" ")).toBe(made.publicKey);
    const shown = await run("ssh-keygen", ["-l", "-f", path]);
    expect(shown.stdout).toContain(fingerprint(made.publicKey));
  }
});

test("H-6.4 the key for clients of 2014 is RSA-3072 in PEM", async () => {
  const made = await makeRsaKey();
  expect(made.privateKey).toMatch(/^-----BEGIN RSA PRIVATE KEY-----\n/);
  expect(createPrivateKey(made.privateKey).asymmetricKeyDetails?.modulusLength).toBe(3072);
});

test("a host key is made once and kept, 0600", async () => {
  const path = join(directory, "host_key");
  const first = await keptHostKey(path, "gate");
  expect(await keptHostKey(path, "gate")).toEqual(first);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test("H-6.3 sshd's configuration: publickey, one group, nothing else", async () => {
  await keptHostKey(join(directory, "host_key"), "gate");
  const config = sshdConfig({
    address: "127.0.0.1",
    port: 22,
    hostKeyFile: join(directory, "host_key"),
    keysFile: "/run/gate/keys/%u",
    group: "rackyard-te",
  });
  await writeFile(join(directory, "config"), config);
  // sshd wants /run/sshd, which Debian's service makes at its start: never where it never ran.
  const own = `mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -T -f "$1"`;
  const root = process.getuid?.() === 0 ? [] : ["--map-root-user"];
  const inside = ["--mount", ...root, "sh", "-c", own, "sh", join(directory, "config")];
  const shown = await run("unshare", inside);
  for (const line of [
    "usepam no",
    "passwordauthentication no",
    "kbdinteractiveauthentication no",
    "disableforwarding yes",
    "permittty no",
    "permituserrc no",
    "maxsessions 10",
    "logingracetime 20",
    "clientaliveinterval 15",
    "clientalivecountmax 3",
    "unusedconnectiontimeout 30",
    "loglevel VERBOSE",
    "allowgroups rackyard-te",
    "authenticationmethods publickey",
  ]) {
    expect(shown.stdout.toLowerCase()).toContain(line.toLowerCase());
  }
  expect(() =>
    sshdConfig({
      address: "::",
      port: 22,
      hostKeyFile: "/a\nPermitTTY yes",
      keysFile: "x",
      group: "g",
    }),
  ).toThrow("not a word");
});

test("H-6.3 a key line holds expiry, addresses and the forced command, and cannot be broken", () => {
  const publicKey = publicKeyLine(generateKeyPairSync("ed25519").publicKey);
  const key = {
    publicKey,
    expiresAtMs: Date.UTC(2031, 0, 2, 3, 4, 5, 1),
    from: ["10.99.0.180"],
    command: ["gate", "--lease", "l", "--epoch", "7"],
  };
  expect(authorizedKeyLine(key)).toBe(
    'restrict,expiry-time="20310102030406Z",from="10.99.0.180",' +
      `command="gate --lease l --epoch 7" ${publicKey}\n`,
  );
  expect(authorizedKeyLine({ ...key, from: [] })).not.toContain("from");
  for (const bad of [
    { ...key, command: ['x" y'] },
    { ...key, command: ["x\ny"] },
    { ...key, from: ['1.2.3.4",no-pty'] },
    { ...key, publicKey: `${publicKey}\nssh-rsa AAAA` },
    { ...key, publicKey: `${publicKey} comment` },
  ]) {
    expect(() => authorizedKeyLine(bad)).toThrow(/not a/);
  }
});

test("the client's arguments: one key, one known host, nothing of the user's", () => {
  const target = {
    host: "10.99.0.180",
    user: "ci",
    identityFile: "/k",
    knownHostsFile: "/h",
    control: { socket: "/run/s", persistSeconds: 60 },
  };
  const args = sshArgs(target, "true");
  expect(args.slice(-2)).toEqual(["ci@10.99.0.180", "true"]);
  expect(args.slice(0, 3)).toEqual(["-T", "-F", "/dev/null"]);
  for (const option of [
    "StrictHostKeyChecking=yes",
    "UserKnownHostsFile=/h",
    "IdentityFile=/k",
    "IdentitiesOnly=yes",
    "BatchMode=yes",
    "ControlPath=/run/s",
  ]) {
    expect(args).toContain(option);
  }
  expect(scpArgs({ ...target, port: 2022 })).toContain("-P");
  expect(remotePath(target, "/a")).toBe("ci@10.99.0.180:/a");
  expect(controlArgs(target, "exit").slice(0, 2)).toEqual(["-O", "exit"]);
  expect(gitSshCommand(target)).toMatch(/^ssh -T -F \/dev\/null /);
  expect(() => sshArgs({ ...target, user: "-oProxyCommand=x" })).toThrow("not a login");
});

test("known_hosts names the port where it is not 22", () => {
  const key = "ssh-ed25519 AAAA";
  expect(knownHostsLine({ host: "10.0.0.1" }, key)).toBe(`10.0.0.1 ${key}\n`);
  expect(knownHostsLine({ host: "10.0.0.1", port: 2022 }, key)).toBe(`[10.0.0.1]:2022 ${key}\n`);
});
