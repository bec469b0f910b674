/** How the cell's daemons are started (H-15.2, H-15.3): what they are told, and who keeps them. */
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { launch } from "../base/command.ts";
import { openOpenVswitch } from "../openvswitch/ovs-vsctl.ts";
import { cellPlaces } from "./cell-paths.ts";
import { libvirtd, ovsdbServer, ovsVswitchd } from "./daemon-specs.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "specs-"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(directory, { recursive: true });
});

const said = async (): Promise<string[]> =>
  (await readFile(join(directory, "said"), "utf8").catch(() => "")).split("\n").filter(Boolean);

async function script(name: string, text: string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, `#!/bin/sh\n${text}\n`);
  await chmod(path, 0o755);
  return path;
}

test("H-15.2 bridges are userspace ones, and offload is set before ovs-vswitchd starts", async () => {
  // In the place of ovs-vsctl: writes down what it is told.
  await script("ovs-vsctl", `echo "$@" >> ${join(directory, "said")}`);
  vi.stubEnv("PATH", `${directory}:${process.env["PATH"]}`);
  expect(await ovsdbServer(cellPlaces("/s")).ready()).toBe(true);
  const [ready] = await said();
  // `--no-wait`: ovs-vswitchd is not there yet, and starts with this setting
  expect(ready).toContain("--no-wait");
  expect(ready).toContain("other_config:userspace-tso-enable=true");
  expect(ovsVswitchd().with).toEqual(["ovsdb-server"]);
  const settings = { failMode: "secure", mtu: 1_500, externalIds: {} } as const;
  await openOpenVswitch("unix:/x").ensureBridge("br-ctlplane", settings);
  expect((await said()).at(-1)).toContain("set bridge br-ctlplane datapath_type=netdev");
});

test("H-15.3 libvirtd is started again by a loop that outlives it, below a reaper", async () => {
  const spec = libvirtd(cellPlaces("/s"));
  expect([spec.program, ...spec.args.slice(0, 2)]).toEqual(["/usr/bin/tini", "-s", "--"]);
  const shell = spec.args.indexOf("/bin/sh");
  const name = spec.args.indexOf("/usr/sbin/libvirtd");
  expect(name).toBeGreaterThan(shell);
  // In the place of libvirtd: is killed once, ends with a failure once, and then as it should.
  const count = `$(wc -l < ${join(directory, "said")})`;
  const worker = await script(
    "worker",
    `echo $PPID >> ${join(directory, "said")}
case ${count} in 1) kill -KILL $$ ;; 2) exit 1 ;; *) exit 0 ;; esac`,
  );
  const loop = launch(spec.args[shell]!, [...spec.args.slice(shell + 1, name), worker], {
    stdio: "ignore",
  });
  await loop.exited;
  const parents = await said();
  expect(parents).toHaveLength(3);
  expect(new Set(parents)).toEqual(new Set([String(loop.pid)])); // one and the same loop
});
