/**
 * A host with many racks, all off: 20 racks of 5 machines (and a seed each), defined in
 * libvirt's test driver through the real virsh; the rest of the hypervisor is the one in memory.
 * Prints how long an idle pass takes, and a heartbeat, also while virsh does not answer.
 * Exit 1 where a promise is broken.
 * Usage: node tools/bench/host.ts [--racks 20] [--machines 5] [--looks 20] [--json]
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openDomains } from "../../src/hypervisor/domains.ts";
import type { Hypervisor } from "../../src/hypervisor/hypervisor-port.ts";
import { openVirsh } from "../../src/libvirt/virsh-pool.ts";
import type { Virsh } from "../../src/libvirt/virsh-pool.ts";
import { planAll } from "../../src/main/te-host/passes.ts";
import { vitalsOf } from "../../src/main/te-host/session-texts.ts";
import { kindSchema } from "../../src/model/machine.ts";
import { emptyWorld, simHypervisor } from "../../src/sim/hypervisor.ts";
import { partsOf, seedRule } from "../../src/testenv/parts.ts";
import { lastPower } from "../../src/testenv/power.ts";
import { openProvision } from "../../src/testenv/provision.ts";
import { reportOf } from "../../src/testenv/report.ts";
import { newTestenv } from "../../src/testenv/testenv-state.ts";

const { values } = parseArgs({
  options: {
    racks: { type: "string", default: "20" },
    machines: { type: "string", default: "5" },
    looks: { type: "string", default: "20" },
    json: { type: "boolean", default: false },
  },
});
const promised = { passMs: 1_000, heartbeatMs: 100, commandsAPass: 2 };

const hostId = "b0000000-0000-4000-8000-000000000001";
const folder = await mkdtemp(join(tmpdir(), "rackyard-host-"));
const kind = kindSchema.parse({ machines: { count: Number(values.machines) } });
const ground = {
  hostId,
  macKey: "key",
  disksFolder: join(folder, "disks"),
  consolesFolder: folder,
  socketsFolder: folder,
  mtu: 1_500,
  testBridge: "br-ctlplane",
  seedIp: (number: number) => `10.99.0.${10 + number}`,
};
const testenvs = Array.from({ length: Number(values.racks) }, (_, n) => newTestenv(n + 1, "many"));
const all = testenvs.map(({ number }) => partsOf(ground, number, "many", kind));

let commands = 0;
let holds: Promise<void> | undefined;
const inner = openVirsh({ uri: "test:///default", directory: join(folder, "xml") });
const counted = async (act: () => Promise<string>): Promise<string> => {
  commands++;
  await holds;
  return act();
};
const virsh: Virsh = {
  query: (...words) => counted(() => inner.query(...words)),
  change: (...words) => counted(() => inner.change(...words)),
  changeByXml: (words, xml) => counted(() => inner.changeByXml(words, xml)),
  [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
};
const onStarted = (): Promise<void> => Promise.resolve();
const domains = openDomains({
  virsh,
  uri: "test:///default",
  flavour: "test",
  hostId,
  state: folder,
  onStarted,
});
const world = emptyWorld();
const hypervisor: Hypervisor = { ...simHypervisor(undefined, world), domains };
const provision = openProvision({
  hostId,
  hypervisor,
  rules: { set: () => Promise.resolve(), remove: () => Promise.resolve() },
  setAccounts: () => Promise.resolve(),
  accounts: () => testenvs.map(({ number }) => number),
  testenvs: () => testenvs,
  partsOf: (te) => all[te.number - 1]!,
  post: () => Promise.resolve(),
});

for (const parts of all) {
  await hypervisor.bridges.ensurePrivate(parts.bridge);
  world.rules.push(seedRule(parts, []));
  for (const { spec, disk } of parts.all) {
    await domains.define(spec);
    await hypervisor.disks.createOverlay({ ...disk, base: null });
  }
}

const idle = (): Promise<number> =>
  timed(async () => {
    const planned = await planAll(hypervisor, [provision]);
    const open = planned.filter(({ kind: what }) => what !== "prove-testenv");
    if (open[0]) throw new Error(`not idle: ${open[0].kind} ${open[0].target}: ${open[0].why}`);
  });
/** As the agent does it: what is seen of the host, and a report of each rack. */
const heartbeat = (): Promise<number> =>
  timed(async () => {
    await vitalsOf(hypervisor, folder, { own: [], failures: [], ofRacks: [], racks: [] });
    for (const te of testenvs) {
      const parts = all[te.number - 1]!;
      reportOf(te, parts, lastPower(hypervisor, parts));
    }
  });

const firstPassMs = await idle(); // reads every mark
const looks = Number(values.looks);
commands = 0;
const passes = await many(looks, idle);
const commandsAPass = commands / looks;
commands = 0;
const beats = await many(looks, heartbeat);
let answers = (): void => undefined;
holds = new Promise((resolve) => (answers = resolve));
const hung = domains.list();
const beatsWhileHung = await many(looks, heartbeat);
const commandsOfBeats = commands - 1; // the one that hangs is ours
answers();
await hung;
await virsh[Symbol.asyncDispose]();
await rm(folder, { recursive: true, force: true });

const figures = {
  domains: all.length * (kind.machines.count + 1),
  firstPassMs: round(firstPassMs),
  passMs: round(Math.max(...passes)),
  commandsAPass,
  heartbeatMs: round(Math.max(...beats)),
  heartbeatHungMs: round(Math.max(...beatsWhileHung)),
  commandsOfBeats,
};
const kept =
  figures.passMs <= promised.passMs &&
  figures.commandsAPass <= promised.commandsAPass &&
  Math.max(figures.heartbeatMs, figures.heartbeatHungMs) <= promised.heartbeatMs &&
  commandsOfBeats === 0;
if (values.json) console.log(JSON.stringify({ ...figures, promised, kept }));
else {
  console.log(`${figures.domains} domains of ${all.length} racks, defined and off`);
  console.log(`idle pass      ${figures.passMs} ms, ${commandsAPass} virsh commands`);
  console.log(`first pass     ${figures.firstPassMs} ms, with every mark read`);
  console.log(`heartbeat      ${figures.heartbeatMs} ms, ${commandsOfBeats} virsh commands`);
  console.log(`libvirt hung   ${figures.heartbeatHungMs} ms a heartbeat`);
  console.log(kept ? "as promised" : `promised: ${JSON.stringify(promised)}`);
}
process.exitCode = kept ? 0 : 1;

async function timed(act: () => Promise<void>): Promise<number> {
  const beganMs = performance.now();
  await act();
  return performance.now() - beganMs;
}

async function many(times: number, act: () => Promise<number>): Promise<number[]> {
  const spans: number[] = [];
  for (let n = 0; n < times; n++) spans.push(await act());
  return spans;
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
