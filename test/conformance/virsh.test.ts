/**
 * The pool of virsh processes and what stands on it, against a real virsh with libvirt's own
 * test driver: no libvirtd, no QEMU (H-4.2–H-4.7).
 */
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isRackyardError } from "../../src/base/errors.ts";
import { openDomains } from "../../src/hypervisor/domains.ts";
import type { DomainSpec } from "../../src/hypervisor/hypervisor-port.ts";
import { openVirsh } from "../../src/libvirt/virsh-pool.ts";
import type { Virsh } from "../../src/libvirt/virsh-pool.ts";
import { testDomains } from "./domains-suite.ts";

const uri = "test:///default";
const hostId = "b0000000-0000-4000-8000-000000000001";
const spec: DomainSpec = {
  name: "baremetalbrbm1_0",
  uuid: "6ec9a3f0-5a0c-5e2b-9a3e-0d6c1b2a3f41",
  mark: { kind: "machine", host: hostId, te: 1, machine: 0 },
  memoryMiB: 256,
  cpus: 1,
  nics: [{ mac: "00:0b:d0:69:7e:60", bridge: "brbm1", tap: "te1n0p0", mtu: 1_500 }],
  disks: [{ path: "/disk.qcow2", format: "qcow2", serial: "te1n0d0" }],
  boot: ["network", "hd", "cdrom"],
  consoleLog: "/console.log",
  consoleSocket: "/console.sock",
  serial: "te1-n0",
  asset: "te1",
  guestAgent: false,
  cdrom: true,
};

let directory: string;
let virsh: Virsh;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "virsh-"));
  virsh = openVirsh({ uri, directory: join(directory, "xml") });
});
afterAll(async () => {
  await virsh[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const domains = () =>
  openDomains({
    virsh,
    uri,
    flavour: "test",
    hostId,
    state: directory,
    onStarted: async () => undefined,
  });

describe("H-4.7 domains on libvirt's test driver", () => {
  testDomains({
    domains,
    again: domains,
    spec: () => spec,
    inactiveXml: (uuid) => virsh.query("dumpxml", uuid, "--inactive"),
    liveXml: (uuid) => virsh.query("dumpxml", uuid),
  });
});

describe("the pool", () => {
  test("H-1.10 the driver's own domain has no mark, and so is not ours", async () => {
    const own = (await domains().list()).find((each) => each.name === "test");
    expect(own).toMatchObject({ power: "on", mark: null, plan: null });
  });

  test("H-4.3 an error is virsh's words with a code; the next command is not disturbed", async () => {
    const wrong = virsh.query("domstate", "00000000-0000-4000-8000-000000000000");
    await expect(wrong).rejects.toSatisfy((error) => isRackyardError(error, "not-found"));
    expect(await virsh.query("uri")).toBe(`${uri}\n`);
  });

  test("H-4.2 many commands at once are answered each with its own", async () => {
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_each, n) => virsh.query("echo", `word-${n}`)),
    );
    expect(answers).toEqual(answers.map((_each, n) => `word-${n}`));
  });

  test("H-4.4 a file of XML is gone when its command is done", async () => {
    await expect(virsh.changeByXml(["define"], "<domain/>")).rejects.toThrow(/virsh define/);
    expect(await readdir(join(directory, "xml"))).toEqual([]);
  });

  test("H-4.6 a process that died is replaced; with no libvirtd it says so", async () => {
    const away = openVirsh({ uri: "qemu+unix:///system?socket=/nowhere", directory });
    for (let tries = 0; tries < 2; tries++) {
      await expect(away.query("list")).rejects.toSatisfy((error) =>
        isRackyardError(error, "unavailable"),
      );
    }
    await away[Symbol.asyncDispose]();
  });

  test("H-4.6 a virsh that is not there is a missing package", async () => {
    const none = openVirsh({ uri, directory, program: "/nowhere/virsh" });
    await expect(none.query("list")).rejects.toThrow(/nowhere/);
    await none[Symbol.asyncDispose]();
  });

  test("H-4.6 a stuck process is ended in time and replaced", async () => {
    // Answers nothing the first time, like a virsh whose libvirtd hangs; then is virsh.
    const program = join(directory, "stuck");
    const flag = join(directory, "was-stuck");
    const script = `#!/bin/sh\n[ -e ${flag} ] && exec virsh "$@"\n: >${flag}\nexec sleep 600\n`;
    await writeFile(program, script);
    await chmod(program, 0o755);
    const stuck = openVirsh({ uri, directory, program, queryMs: 300 });
    await expect(stuck.query("uri")).rejects.toSatisfy((error) =>
      isRackyardError(error, "timed-out"),
    );
    expect(await openedAgain(stuck)).toBe(`${uri}\n`);
    await stuck[Symbol.asyncDispose]();
  });
});

/** Starting virsh anew may itself take longer than the short limit on a busy machine. */
async function openedAgain(pool: Virsh): Promise<string> {
  for (let tries = 0; ; tries++) {
    try {
      return await pool.query("uri");
    } catch (error) {
      if (tries > 20) throw error;
    }
  }
}
