/**
 * The agent inside of its cell (H-1.1): store, hypervisor, racks, nodes, session, in this order;
 * stopping is the same read backwards and leaves leases and machines as they are. Everything
 * that happens on the host is passed on from here; what to do about it is the parts'.
 */
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { assertNever } from "../../base/assert.ts";
import { describeError, fail, isRackyardError } from "../../base/errors.ts";
import type { Endpoint } from "../../base/http-client.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Scope } from "../../base/scope.ts";
import { systemRandom } from "../../base/random.ts";
import { openTroubles } from "../../base/troubles.ts";
import type { Troubles } from "../../base/troubles.ts";
import { pause } from "../../base/wait.ts";
import type { Cell } from "../../hypervisor/cell.ts";
import { openHypervisor } from "../../hypervisor/hypervisor.ts";
import type { Hypervisor } from "../../hypervisor/hypervisor-port.ts";
import { openImageStore } from "../../image/content-store.ts";
import { imagesToRemove } from "../../image/collection.ts";
import type { ImageStore } from "../../image/content-store.ts";
import type { Config } from "../../model/config.ts";
import type { ToHost, Wanted } from "../../model/session.ts";
import { openImageBuilds } from "../../nodehost/image-builds.ts";
import type { ImageBuilds, OutsideCommand } from "../../nodehost/image-builds.ts";
import { openNodes } from "../../nodehost/nodes.ts";
import type { Nodes } from "../../nodehost/nodes.ts";
import { dialBroker } from "../../session/broker-session.ts";
import type { BrokerSession, FromHost } from "../../session/session-port.ts";
import { openRoomyStore } from "../../store/room.ts";
import type { Store } from "../../store/store.ts";
import { carve } from "../../testenv/carve.ts";
import { consoleSockets, openTestenvs } from "../../testenv/testenvs.ts";
import type { Testenvs } from "../../testenv/testenvs.ts";
import { testenvRecords } from "../../testenv/record.ts";
import { admittedOnly } from "./admitted.ts";
import { doorsOf } from "./doors.ts";
import { beat } from "./heartbeat.ts";
import type { AgentTroubles } from "./heartbeat.ts";
import { hostSize } from "./host-size.ts";
import { enterWorld, hostClock, openIdentity } from "./identity.ts";
import type { Identity } from "./identity.ts";
import { openPasses } from "./passes.ts";
import type { Passes } from "./passes.ts";
import { openRuleBook } from "./rule-book.ts";
import { hostProbes, runProbes } from "./probes.ts";
import { helloOf } from "./session-texts.ts";

export type AgentOptions = {
  readonly cell: Cell;
  readonly config: Config;
  /** `unix:/….sock`, or a URL. */
  readonly broker: Endpoint;
  readonly binFolder: string;
  readonly imageCache: string | undefined;
  readonly outside: OutsideCommand;
  readonly scope: Scope;
  readonly log: Log;
  /** Our own mistake: the program must end. */
  readonly onCrash: (error: unknown) => void;
};

type Parts = {
  readonly hypervisor: Hypervisor;
  readonly identity: Identity;
  readonly images: ImageStore;
  readonly testenvs: Testenvs;
  readonly nodes: Nodes;
  readonly builds: ImageBuilds;
  readonly passes: Passes;
};

/** Returns when the host serves. The scope's end stops it. */
export async function openAgent(options: AgentOptions): Promise<void> {
  const { cell, config, scope, log } = options;
  const folder = join(cell.state, "te");
  const { store, keepRoom } = await openRoomyStore(join(folder, "te-host.db"));
  scope.own(store);
  const identity = await openIdentity(store, join(folder, "keys"));
  const world = await enterWorld(store);
  const hypervisor = scope.own(
    await openHypervisor({
      cell,
      hostId: identity.hostId,
      doors: doorsOf(config),
      accelerator: config.teHost.accelerator,
      log,
    }),
  );
  const images = await openImageStore(join(cell.state, "images"), options.imageCache);
  // The host is whole before it says hello; what it has to tell until then waits.
  const early: FromHost[] = [];
  let session: BrokerSession | undefined;
  const send = (message: FromHost): void => {
    if (session) session.send(message);
    else early.push(message);
  };
  const openOwn = (): Troubles => openTroubles({ log, wallMs: () => hostClock.wallMs() });
  const troubles: AgentTroubles = { host: openOwn(), racks: openOwn() };
  const keepOwnRoom = roomKeeper(keepRoom, troubles.host);
  await keepOwnRoom();
  const given = {
    store,
    keepOwnRoom,
    identity,
    hypervisor,
    images,
    world: world.id,
    troubles,
    send,
  };
  const parts = await openParts(options, given);
  scope.own(parts.testenvs);
  scope.own(parts.nodes);
  scope.own(parts.builds);
  listen(parts, scope);
  const wanted = await carveHost(config, cell.state, store, log);
  await parts.testenvs.start(wanted, world.isNew);
  await parts.nodes.load();
  await parts.nodes.start(world.isNew);
  await parts.builds.start();
  await world.keep();
  if (!world.isNew) {
    parts.testenvs.onInterruption("agent-restarted", "the host's agent was started again");
  }
  session = scope.own(dial(options, parts));
  for (const message of early) session.send(message);
  scope.spawn("passes", (signal) => parts.passes.run(signal));
  scope.spawn("heartbeat", (signal) =>
    beat({ ...parts, troubles, state: cell.state, clock: hostClock }, send, signal),
  );
  scope.spawn("probes", (signal) => probe(parts, troubles.host, signal));
  const { hostId } = identity;
  log.info({ hostId, world: world.id, isNew: world.isNew, racks: wanted.length }, "te-host serves");
}

function dial({ broker, log, cell, config }: AgentOptions, parts: Parts): BrokerSession {
  return dialBroker({
    url: broker.url,
    log: log.child({ component: "session" }),
    clock: hostClock,
    random: systemRandom,
    handler: {
      nextSessionNumber: () => parts.identity.nextSessionNumber(),
      hello: (sessionNumber) => helloOf({ ...parts, cell, config, sessionNumber }),
      async onWelcome(welcome) {
        parts.nodes.claim(welcome.nodes);
        await parts.testenvs.onWelcome(welcome.testenvs.map((it) => admit(parts, it, log)));
      },
      onMessage: openRoute(parts, log),
    },
  });
}

async function openParts(
  options: AgentOptions,
  given: {
    store: Store;
    keepOwnRoom: () => Promise<void>;
    identity: Identity;
    hypervisor: Hypervisor;
    images: ImageStore;
    world: string;
    troubles: AgentTroubles;
    send: (message: FromHost) => void;
  },
): Promise<Parts> {
  const { cell, config, log, onCrash } = options;
  const { store, identity, hypervisor, images, world, troubles, send } = given;
  const folder = join(cell.state, "te");
  const rules = await openRuleBook(hypervisor.portRules);
  const testenvs = await openTestenvs({
    folder,
    binFolder: options.binFolder,
    hostId: identity.hostId,
    macKey: identity.macKey,
    config: config.teHost,
    hypervisor,
    rules,
    images,
    store,
    clock: hostClock,
    world,
    sshHostKey: identity.sshHostKey,
    certificateKey: identity.certificateKey,
    broker: options.broker,
    send,
    wantPass: () => passes.wake(),
    troubles: troubles.racks,
    onCrash,
    log: log.child({ component: "testenv" }),
  });
  const nodes = await openNodes({
    tools: {
      hypervisor,
      images,
      setRule: (rule) => rules.set(rule),
      removeRule: (tap) => rules.remove(tap),
    },
    ground: {
      hostId: identity.hostId,
      macKey: identity.macKey,
      folder: join(folder, "nodes"),
      socketsFolder: consoleSockets,
      testBridge: hypervisor.testNetwork.bridge,
      mtu: hypervisor.testNetwork.mtu,
    },
    store,
    clock: hostClock,
    log: log.child({ component: "nodehost" }),
    send,
    busy: () => hypervisor.accelerator === "tcg" && testenvs.booting(),
    onCrash,
  });
  const builds = await openImageBuilds({
    images,
    store,
    workFolder: join(cell.state, "images/work"),
    packagesFolder: join(options.imageCache ?? join(cell.state, "images"), "packages"),
    maxVirtualGiB: config.teHost.images.maxVirtualGiB,
    outside: options.outside,
    clock: hostClock,
    log: log.child({ component: "images" }),
    send,
  });
  const passes: Passes = openPasses({
    hypervisor,
    parts: [testenvs.provision, nodes],
    after: async () => {
      await given.keepOwnRoom();
      await testenvs.keepConsolesSmall();
      await collectImages(images, cell.state, [testenvs, nodes, builds], log);
    },
    clock: hostClock,
    log: log.child({ component: "passes" }),
  });
  return { hypervisor, identity, images, testenvs, nodes, builds, passes };
}

/** Its failure is a trouble that health shows: the next pass tries again. */
function roomKeeper(keepRoom: () => Promise<void>, troubles: Troubles): () => Promise<void> {
  const what = "room for this host's own record";
  return () =>
    keepRoom().then(
      () => troubles.end(what),
      (error: unknown) => troubles.begin(what, describeError(error)),
    );
}

/** What happens on the host reaches the parts that care. */
function listen(parts: Parts, scope: Scope): void {
  const { hypervisor, testenvs, passes } = parts;
  scope.spawn("domain events", (signal) =>
    hypervisor.domains.watch((event) => {
      testenvs.onDomainEvent(event);
      passes.wake();
    }, signal),
  );
  scope.spawn("dhcp acknowledgements", (signal) =>
    hypervisor.testNetwork.watchAcks((ack) => testenvs.onAck(ack.mac), signal),
  );
  scope.spawn("own stalls", (signal) =>
    watchStalls((seconds) => {
      const text = `the host's agent stood still for ${seconds} s`;
      testenvs.onInterruption("agent-stalled", text);
    }, signal),
  );
  hypervisor.onRestart((daemon) => {
    testenvs.onInterruption("daemon-restarted", `${daemon} died and was started again`);
    passes.wake();
  });
}

/** What a rack stands on is seen to work; what is not, leased racks may have felt. */
function probe(parts: Parts, troubles: Troubles, signal: AbortSignal): Promise<void> {
  const { hypervisor, testenvs, passes } = parts;
  return runProbes({
    probes: hostProbes(hypervisor, testenvs),
    clock: hostClock,
    troubles,
    wantPass: () => passes.wake(),
    onTrouble: (what, why) => testenvs.onInterruption("probe-failed", `${what} fails: ${why}`),
    signal,
  });
}

/**
 * An agent that was stopped, or starved, answered no verb meanwhile: the gate has told a job that
 * it is away. That is the host's fault (ci.md F-1), and nobody else can know of it.
 */
async function watchStalls(tell: (seconds: number) => void, signal: AbortSignal): Promise<void> {
  for (;;) {
    const beganMs = hostClock.monoMs();
    await pause(limits.stallLookMs, signal);
    const stoodMs = hostClock.monoMs() - beganMs;
    if (stoodMs > limits.stallMs) tell(Math.round(stoodMs / 1000));
  }
}

/**
 * What is of racks is theirs at once, and they record together what comes together; nodes and
 * images take one message after another.
 */
function openRoute(
  parts: Parts,
  log: Log,
): (message: Exclude<ToHost, { kind: "welcome" }>) => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return (message) => {
    const serial = ["node-create", "node-delete", "image-build"].includes(message.kind);
    if (!serial) return route(parts, message, log);
    const done = last.then(() => route(parts, message, log));
    last = done.catch(() => undefined);
    return done;
  };
}

/** A message of the broker to the part it is for; resolves when it is recorded. */
async function route(
  parts: Parts,
  message: Exclude<ToHost, { kind: "welcome" }>,
  log: Log,
): Promise<void> {
  switch (message.kind) {
    case "wanted":
      return parts.testenvs.onMessage({ ...message, wanted: admit(parts, message.wanted, log) });
    case "taken":
    case "extend":
    case "reset":
    case "testenv-data":
    case "console-open":
    case "console-credit":
    case "console-close":
      return parts.testenvs.onMessage(message);
    case "node-create":
      return parts.nodes.create(message);
    case "node-delete":
      return parts.nodes.delete(message.id);
    case "image-build":
      return parts.builds.build(message).catch((error: unknown) => {
        if (!isRackyardError(error)) throw error;
        log.warn({ image: message.name, why: describeError(error) }, "no image is built");
      });
    default:
      return assertNever(message, "message");
  }
}

function admit({ hypervisor, nodes }: Parts, wanted: Wanted, log: Log): Wanted {
  const { cidr } = hypervisor.testNetwork;
  return admittedOnly(wanted, { cidr, nodes: nodes.reports(), log });
}

/** H-1.6: the wanted racks; none at all is refused with the sums. */
export async function carveHost(config: Config, state: string, store: Store, log: Log) {
  const present = (await testenvRecords(store, () => hostClock.wallMs()).all())
    .filter(({ phase }) => phase.state !== "removed")
    .map(({ number, kind }) => ({ number, kind }));
  const carving = carve(config, await hostSize(state), present);
  const { sums } = carving;
  if (carving.kind === "refused") {
    fail("no-space", `${carving.why}. ${sums.join("; ")}`, {
      remedy: "make the kinds smaller (teHost.kinds), or set teHost.carve.…PerTe",
    });
  }
  log.info({ sums, racks: carving.wanted.length }, "carved");
  return carving.wanted;
}

/** H-7.7, where the file system fills up. */
async function collectImages(
  images: ImageStore,
  state: string,
  users: readonly [Testenvs, Nodes, ImageBuilds],
  log: Log,
): Promise<void> {
  const { blocks, bfree, bsize } = await statfs(state);
  const disk = { totalBytes: blocks * bsize, usedBytes: (blocks - bfree) * bsize };
  const [testenvs, nodes, builds] = users;
  const inUse = new Set([
    ...testenvs.imagesInUse(),
    ...nodes.imagesInUse(),
    ...builds.reports().map(({ digest }) => digest),
  ]);
  for (const digest of imagesToRemove(await images.usage(), inUse, disk)) {
    await images.remove(digest);
    log.info({ digest }, "image removed: the disk fills up");
  }
}
