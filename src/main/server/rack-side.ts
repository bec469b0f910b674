/**
 * The racks' side of the server: the broker with its hosts' sessions and the node pool, which
 * share them; and what hosts tell that belongs into a build's time line.
 */
import { hostname } from "node:os";
import { join } from "node:path";
import { describeError } from "../../base/errors.ts";
import { systemRandom } from "../../base/random.ts";
import { leaseFilesDirectory } from "../../ci/archive/archive.ts";
import type { Mark } from "../../ci/builds/record.ts";
import { openNodePool } from "../../ci/nodepool/pool.ts";
import type { NodePoolEdge } from "../../ci/nodepool/pool.ts";
import type { Scheduler } from "../../ci/scheduler.ts";
import { openBroker } from "../../lease/broker/broker.ts";
import type { Broker } from "../../lease/broker/broker.ts";
import type { Hello } from "../../model/session.ts";
import { openHostSessions } from "../../session/host-sessions.ts";
import { keptHostKey } from "../../ssh/keys.ts";
import type { Base } from "./base.ts";
import type { ChangeSide } from "./change-side.ts";
import { openLate } from "./late.ts";
import { isCertificate, isHostEvent, markOfCertificate, markOfHostEvent } from "./time-line.ts";

export type RackSide = { readonly broker: Broker; readonly pool: NodePoolEdge };

/** Moments for time lines: kept until the scheduler is there to take them. */
export type TimeLines = {
  lease(lease: string, mark: Mark): void;
  node(node: string, mark: Mark): void;
  /** The scheduler takes them from now on, those that were kept first. */
  give(scheduler: Scheduler): void;
};

export async function openRackSide(
  base: Base,
  { archive, door }: ChangeSide,
  timeLines: TimeLines,
): Promise<RackSide> {
  const { settings, stack, log, store, clock, url } = base;
  const { leases } = settings.config;
  const late = openLate<Broker>("the broker");
  const pool = await openPool(base, () => late.get(), timeLines);
  const broker = await openBroker({
    store,
    clock,
    random: systemRandom,
    log: log.child({ component: "broker" }),
    troubles: base.troubles,
    config: {
      holderTtlMs: leases.holderTtlSeconds * 1_000,
      graceMs: leases.graceSeconds * 1_000,
      maxDurationMs: leases.maxDurationSeconds * 1_000,
    },
    tenant: "default",
    serverUrl: url,
    tokenKey: base.leaseKey,
    filesDirectory: leaseFilesDirectory(archive.directory),
    sessions: (handler) =>
      openHostSessions({
        handler,
        log: log.child({ component: "session" }),
        clock,
        authorise: () => true, // the API lets in only who comes through the socket file
      }),
    nodes: {
      async onHello(hello) {
        openDoor(base, door, hello);
        await pool.onHello(hello);
      },
      expected: (hello) => pool.claimed(hello.name),
      onConnected: (hostId) => pool.onConnected(hostId),
      onMessage: (hostId, message) => pool.onMessage(hostId, message),
      onDisconnected: (hostId) => pool.onDisconnected(hostId),
    },
    onEvent: (topic, subject, event, body) => tell(timeLines, { topic, subject, event, body }),
  });
  stack.use(broker);
  late.set(broker);
  return { broker, pool };
}

async function openPool(
  { places, settings, store, clock, log, scope, troubles }: Base,
  broker: () => Broker,
  timeLines: TimeLines,
): Promise<NodePoolEdge> {
  const identity = await keptHostKey(join(places.keys, "executor"), `rackyard@${hostname()}`);
  return openNodePool({
    store,
    clock,
    random: systemRandom,
    log: log.child({ component: "nodepool" }),
    scope,
    troubles,
    config: settings.config.nodes,
    recipeDirectory: settings.absolute,
    authorizedKey: `${identity.publicKey} rackyard`,
    send: (hostId, message) => broker().send(hostId, message),
    onEvent(id, event, view) {
      const mark = { step: "node-deleted", atMs: clock.wallMs(), detail: view.label };
      if (event === "gone") timeLines.node(id, mark);
    },
  });
}

/** The door stands on the outer end of the cell's cable, which exists once the host does. */
function openDoor({ scope, settings, log }: Base, door: ChangeSide["door"], hello: Hello): void {
  if (door.url() !== undefined) return;
  const address = hello.testNetwork.machineIp;
  scope.spawn("nodes' door", async (signal) => {
    try {
      await door.listen(address, settings.config.server.nodesDoorPort, signal);
      log.info({ url: door.url() }, "the nodes' door is open");
    } catch (error) {
      if (!signal.aborted) log.error({ address, error: describeError(error) }, "no nodes' door");
    }
  });
}

function tell(
  timeLines: TimeLines,
  told: { topic: string; subject: string; event: string; body: object },
): void {
  const { topic, subject, event, body } = told;
  if (topic === "lease" && isHostEvent(body)) {
    const mark = markOfHostEvent(body);
    if (mark) timeLines.lease(subject, mark);
  } else if (topic === "testenv" && event === "certified" && isCertificate(body)) {
    if (body.lease !== null) timeLines.lease(body.lease, markOfCertificate(body));
  }
}

export function openTimeLines({ log }: Pick<Base, "log">): TimeLines {
  let kept: ((scheduler: Scheduler) => Promise<void>)[] = [];
  let scheduler: Scheduler | undefined;
  const note = (work: (scheduler: Scheduler) => Promise<void>): void => {
    if (!scheduler) {
      kept.push(work);
      return;
    }
    work(scheduler).catch((error: unknown) => {
      log.error({ error: describeError(error) }, "a moment is missing in a time line");
    });
  };
  return {
    lease: (lease, mark) => note((taker) => taker.noteLease(lease, mark)),
    node: (node, mark) => note((taker) => taker.noteNode(node, mark)),
    give(taker) {
      scheduler = taker;
      const waiting = kept;
      kept = [];
      for (const work of waiting) note(work);
    },
  };
}
