/**
 * Milestone M2: ten times `rackyard lease` lends the one rack to a command, and each time the
 * host's agent is killed at another moment of it. The lease goes on, the rack comes back with
 * proof, and nothing is left over. Two of the commands are the example's whole job; the others
 * are short, but use the gate, the seed and a machine.
 */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { forEachLine, launch, plainEnv } from "../../src/base/command.ts";
import { until, within } from "../../src/base/wait.ts";
import { verifyCertificate } from "../../src/model/certificate.ts";
import type { LeaseView } from "../../src/model/lease.ts";
import type { Certificate, HostView, TestenvView } from "../../src/model/testenv.ts";
import { calibrateBoot } from "./calibrate.ts";
import { exampleDirectory } from "./example.ts";
import { prepareGuest } from "./guest.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

const entry = fileURLToPath(new URL("../../src/main/rackyard.ts", import.meta.url));

/** What a holder's work does with a rack, a line for each thing done. */
const shortWork = `#!/bin/bash
set -euo pipefail
disk=$1
read -r user host N < <(jq -r '"\\(."ssh-user") \\(."host-ip") \\(."env-num")"' "$TE_DATAFILE")
exec 3>&1
half=$(($(stat -c %s "$disk") / 2))
{ head -c $half "$disk"; echo "half of the image is sent" >&3; tail -c +$((half + 1)) "$disk"; } |
  ssh "$user@$host" copyseed "$N"
echo "the image is there"
ssh "$user@$host" virsh start "seed_$N"
echo "the seed is started"
ssh "$user@$host" virsh start "baremetalbrbm\${N}_0"
echo "a machine is started"
ssh "$user@$host" virsh list --all
ssh "$user@$host" virsh destroy "seed_$N"
echo "the work is done"
`;

/** A moment is a line that the command prints; only in the middle of a copy may it be refused. */
const shortMoments = [
  [": here:1 (epoch ", "ends well"],
  ["half of the image is sent", "may be refused"],
  ["the image is there", "ends well"],
  ["the seed is started", "ends well"],
  ["a machine is started", "ends well"],
  ["baremetalbrbm1_1", "ends well"],
  ["the work is done", "ends well"],
  [": released", "ends well"],
] as const;
const wholeMoments = [
  "images built",
  "image copied",
  "seed started",
  "seed answers",
  "machines powered on",
  "1 of 2 machines",
];

/** Two moments of the whole job, other ones each time; the seed that chose them is told. */
const seed = Number(process.env["RACKYARD_TEST_SEED"] ?? Date.now() % 100_000);
const first = seed % wholeMoments.length;
const second = (first + 1 + (seed % (wholeMoments.length - 1))) % wholeMoments.length;

describe.runIf(process.env["RACKYARD_TEST_DEEP"])("deep: ten leases, ten dead agents", () => {
  let yard: Yard;
  let folder: string;
  let boot: number;
  let short: readonly string[];
  let epoch = 0n;

  beforeAll(async () => {
    boot = await calibrateBoot();
    folder = await mkdtemp(join(tmpdir(), "lease-cycles-"));
    const program = join(folder, "work");
    await writeFile(program, shortWork, { mode: 0o755 });
    short = [program, (await prepareGuest()).disk];
    yard = await openYard({
      set: ["teHost.kinds.two.count=1", "nodes.labels.worker={ image: debian-12, minReady: 0 }"],
    });
  });
  afterAll(async () => {
    await yard?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  /** Of the agent that serves, another one than `before`. */
  const agentPid = (before?: number): Promise<number> =>
    until(
      async () => {
        const { health, processes } = await yard.status();
        const pid = processes.find(({ name }) => name === "te-host")?.pid;
        return health === "ok" && pid !== before && pid;
      },
      { timeoutMs: 60_000, what: "the agent to serve" },
    );

  /** Lends the rack to a command and kills the agent at the line; how the command ended. */
  async function killedAt(moment: string, command: readonly string[]) {
    const statusFile = join(folder, "status.json");
    await rm(statusFile, { force: true });
    const pid = await agentPid();
    const words = ["lease", "--machines", "2", "--state", yard.state, "--status-file", statusFile];
    const child = launch(process.execPath, [entry, ...words, "--", ...command], {
      env: plainEnv({ WORKSPACE: join(folder, "workspace"), TINYRACK_PATIENCE: "10" }),
    });
    const said: string[] = [];
    let killed = false;
    const hear = (line: string): void => {
      said.push(line);
      if (killed || !line.includes(moment)) return;
      killed = true;
      process.kill(pid, "SIGKILL");
    };
    const heard = Promise.all([forEachLine(child.stdout!, hear), forEachLine(child.stderr!, hear)]);
    const ended = heard.then(() => child.exited);
    const limited = within(boot * 100, "the command", ended);
    const { code } = await limited.finally(() => void child.end());
    expect(killed, said.join("\n")).toBe(true);
    const status = JSON.parse(await readFile(statusFile, "utf8")) as Record<string, unknown>;
    return { pid, code, said, status };
  }

  /** The agent is back, the rack ready under a valid certificate of a higher epoch, all is idle. */
  async function comesBack(pid: number, lease: string): Promise<void> {
    await agentPid(pid);
    const te = await until(
      async () => {
        const { items } = await yard.json<{ items: TestenvView[] }>("te", "list");
        return items[0]?.state === "ready" && items[0];
      },
      { timeoutMs: 60_000, what: "the rack to be ready" },
    );
    expect(BigInt(te.epoch)).toBeGreaterThan(epoch);
    epoch = BigInt(te.epoch);
    expect(te.machineList.map(({ power }) => power)).toEqual(["off", "off", "off"]);
    const view = await yard.json<LeaseView>("lease", "show", lease);
    expect(view).toMatchObject({ state: "ended", reason: "released" });
    const { items: hosts } = await yard.json<{ items: HostView[] }>("host", "list");
    const certificate = await yard.json<Certificate>("te", "certificate", "here:1");
    expect(verifyCertificate(certificate, hosts[0]?.certificateKey ?? "")).toBe(true);
    expect(certificate).toMatchObject({ lease, epoch: Number(te.epoch), reason: "released" });
    expect(await yard.json("te-host", "plan")).toEqual([]);
  }

  test.each(shortMoments)("M2 L5 L7 short work, killed at “%s”: it %s", async (moment, how) => {
    const { pid, code, said, status } = await killedAt(moment, short);
    expect(status, said.join("\n")).toMatchObject({ outcome: "exited", exitCode: code });
    if (how === "ends well") expect([code, said]).toEqual([0, said]);
    await comesBack(pid, String(status["lease"]));
  });

  test.each([wholeMoments[first]!, wholeMoments[second]!])(
    `M2 the whole job, killed at “%s” (RACKYARD_TEST_SEED=${seed})`,
    async (moment) => {
      const job = join(exampleDirectory, "tinyrack-deploy/run.sh");
      const { pid, code, said, status } = await killedAt(moment, [job]);
      expect([code, said]).toEqual([0, said]);
      await comesBack(pid, String(status["lease"]));
      expect((await stat(join(folder, "workspace/machines.json"))).size).toBeGreaterThan(2);
    },
  );
});
