/**
 * `te-host plan` (H-1.3): the actions of a pass, from the record and from what is there now, and
 * touches nothing. Without a cell there is nothing to look at: then it is all still to be made.
 */
import { access, rm } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "../../base/errors.ts";
import { temporaryFolder } from "../../base/files.ts";
import { sha256Hex } from "../../base/ids.ts";
import { silentLog } from "../../base/log.ts";
import type { CliContext } from "../../cli/context.ts";
import { enterCell, insideCell, readCell } from "../../hypervisor/cell.ts";
import type { Cell } from "../../hypervisor/cell.ts";
import { doorsOf } from "./doors.ts";
import { openHypervisor } from "../../hypervisor/hypervisor.ts";
import type { PlannedAction } from "../../hypervisor/hypervisor-port.ts";
import type { Config } from "../../model/config.ts";
import { openNodes } from "../../nodehost/nodes.ts";
import { openSqliteStore } from "../../store/store.ts";
import type { Store } from "../../store/store.ts";
import { newTestenv } from "../../testenv/testenv-state.ts";
import type { Testenv } from "../../testenv/testenv-state.ts";
import { partsOf } from "../../testenv/parts.ts";
import { openProvision } from "../../testenv/provision.ts";
import { planTestenvs } from "../../testenv/plan.ts";
import { testenvRecords } from "../../testenv/record.ts";
import { cellAccounts, consoleSockets, partsIn } from "../../testenv/testenvs.ts";
import { placesOf } from "../places.ts";
import { programArguments } from "../program-arguments.ts";
import { readSettings } from "../server/settings.ts";
import { carveHost } from "./agent.ts";
import { hostClock, knownHostId, knownMacKey } from "./identity.ts";
import { planAll } from "./passes.ts";

export async function runTeHostPlan(context: CliContext): Promise<number> {
  const { globals, out, env } = context;
  if (process.getuid?.() !== 0) {
    fail("not-root", "only root sees machines and bridges", { remedy: "run it as root" });
  }
  const places = placesOf(globals.state);
  const { config } = await readSettings(globals, places);
  const cell = await readCell(places.state);
  if (cell && !insideCell(cell)) {
    const args = [
      ...programArguments("te-host plan", globals),
      ...(globals.json ? ["--json"] : []),
    ];
    return enterCell(cell, process.execPath, args, env);
  }
  const actions = await withRecord(places.state, (store) =>
    cell ? planInside(cell, config, store) : planAnew(places.state, config, store),
  );
  out.result(actions, () =>
    actions.length === 0
      ? "nothing to do"
      : out.table(
          ["action", "target", "why", "undo"],
          actions.map(({ kind, target, why, undo }) => [kind, target, why, undo]),
        ),
  );
  return 0;
}

export function recordExists(state: string): Promise<boolean> {
  return access(join(state, "te/te-host.db")).then(
    () => true,
    () => false,
  );
}

/** The host's record, or an empty one that is gone afterwards. */
async function withRecord<T>(state: string, work: (store: Store) => Promise<T>): Promise<T> {
  if (await recordExists(state)) {
    await using store = await openSqliteStore(join(state, "te/te-host.db"));
    return await work(store);
  }
  const folder = await temporaryFolder("rackyard-plan-");
  try {
    await using store = await openSqliteStore(join(folder, "te-host.db"));
    return await work(store);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** As the agent would have them: recorded ones, and those that the carve plan adds. */
async function testenvsOf(config: Config, state: string, store: Store): Promise<Testenv[]> {
  const recorded = await testenvRecords(store, () => hostClock.wallMs()).all();
  const known = new Set(recorded.map(({ number }) => number));
  const wanted = await carveHost(config, state, store, silentLog);
  const added = wanted.filter(({ number }) => !known.has(number));
  return [...recorded, ...added.map(({ number, kind }) => newTestenv(number, kind))];
}

async function planInside(cell: Cell, config: Config, store: Store): Promise<PlannedAction[]> {
  const hostId = (await knownHostId(store)) ?? "00000000-0000-4000-8000-000000000000";
  const macKey = (await knownMacKey(store)) ?? "";
  const { accelerator } = config.teHost;
  const folder = join(cell.state, "te");
  await using hypervisor = await openHypervisor({
    cell,
    hostId,
    doors: doorsOf(config),
    accelerator,
    readOnly: true,
    log: silentLog,
  });
  const testenvs = await testenvsOf(config, cell.state, store);
  const nothing = (): never => fail("internal", "a plan performs nothing");
  const provision = openProvision({
    hostId,
    hypervisor,
    rules: { set: nothing, remove: nothing },
    setAccounts: nothing,
    accounts: cellAccounts,
    testenvs: () => testenvs,
    partsOf: partsIn({ hypervisor, hostId, macKey, folder, config: config.teHost }),
    post: nothing,
  });
  await using nodes = await openNodes({
    tools: {
      hypervisor,
      images: { find: nothing, pathOf: nothing },
      setRule: nothing,
      removeRule: nothing,
    },
    ground: {
      hostId,
      macKey,
      folder: join(folder, "nodes"),
      socketsFolder: consoleSockets,
      testBridge: hypervisor.testNetwork.bridge,
      mtu: hypervisor.testNetwork.mtu,
    },
    store,
    clock: hostClock,
    log: silentLog,
    send: () => undefined,
    busy: () => false,
    onCrash: nothing,
  });
  await nodes.load();
  return await planAll(hypervisor, [provision, nodes]);
}

async function planAnew(state: string, config: Config, store: Store): Promise<PlannedAction[]> {
  const hostId = "00000000-0000-4000-8000-000000000000";
  const ground = {
    hostId,
    macKey: "",
    disksFolder: join(state, "te/disks"),
    consolesFolder: join(state, "te/consoles"),
    socketsFolder: consoleSockets,
    mtu: config.teHost.testNetwork.mtu,
    testBridge: "br-ctlplane",
    seedIp: (number: number) => String(10 + number),
  };
  const testenvs = await testenvsOf(config, state, store);
  const racks = planTestenvs(
    testenvs.map((te) => {
      const kind = config.teHost.kinds[te.kind] ?? Object.values(config.teHost.kinds)[0]!;
      const parts = partsOf(ground, te.number, te.kind, kind);
      const digests = new Map(parts.all.map(({ spec }) => [spec.uuid, sha256Hex(spec.name)]));
      return { te, parts, digests };
    }),
    { hostId, domains: [], bridges: [], disks: new Set(), rules: [], accounts: [] },
  );
  const undo = "rackyard down";
  return [
    { kind: "make-cell", target: state, why: "there is no cell", undo },
    { kind: "start-daemons", target: state, why: "there is no cell", undo },
    ...racks,
  ];
}
