// Random histories against a model of hosts and of their sessions: messages lost, doubled and
// late, broker and hosts that crash, a store that keeps exactly what was recorded.
import fc from "fast-check";
import { expect, test } from "vitest";
import { sampleFacts, sampleReport } from "../../../test/samples/hosts.ts";
import type { EndReason, LeaseRequest } from "../../model/lease.ts";
import type { Certificate } from "../../model/testenv.ts";
import { decide } from "./decide.ts";
import { hostDueMs, leaseDueMs } from "./due.ts";
import { indexOf } from "./ledger-index.ts";
import type { CheckedReport, HostSaid, LedgerEffect, LedgerEvent } from "./ledger-event.ts";
import { grantOf } from "./ledger-state.ts";
import type {
  HostRecord,
  Lease,
  LeaseRecord,
  Ledger,
  Policy,
  TestenvRecord,
} from "./ledger-state.ts";
import { fits, freeTestenvs, openShelf } from "./matching.ts";
import { restoreLedger } from "./restoring.ts";
import { wantedOf } from "./wanted.ts";
import type { WantedOfTestenv } from "./wanted.ts";

const policy: Policy = {
  holderTtlMs: 30_000,
  streamLossMs: 2_000,
  takenMs: 10_000,
  prepareMs: 15_000,
  avoidMs: 60_000,
  maxDurationMs: 600_000,
  deadlineSlackMs: 5_000,
  hostSuspectMs: 30_000,
  hostGraceMs: 60_000,
  turnMs: 3_000,
  waiters: 100,
  leasesPerHolder: 100,
};

type Rack = {
  epoch: number;
  lease: string | null;
  /** Of the lease's end. */
  reason: EndReason | null;
  state: "ready" | "leased" | "resetting" | "faulty";
  /** Of the lease, by the host's clock; and how much of it was added by extensions. */
  deadlineMs: number;
  addedMs: number;
  proved: number;
  /** Highest epoch that its proof must bear. */
  known: number;
  granted: number;
  draining: boolean;
  /** What a backup of the host's record says. */
  backup: { epoch: number; certified: Certificate | null };
  certified: Certificate | null;
};
type HostModel = {
  readonly name: string;
  readonly id: string;
  readonly racks: Rack[];
  /** Said and not acknowledged; resent in the next session. */
  said: HostSaid[];
  inbox: { number: number; wanted: WantedOfTestenv }[];
  connected: boolean;
  alive: boolean;
};

const request: LeaseRequest = {
  machines: { count: 1 },
  environments: 1,
  durationSeconds: 120,
  priority: "normal",
  takeable: true,
  requeue: false,
  avoid: { hosts: [], testenvs: [] },
  holder: { name: "someone", addresses: [] },
};

/** One world: the ledger, what is durable of it, two hosts, and what must hold. */
function openWorld() {
  let nowMs = 1_000_000;
  let asked = 0;
  const durable = {
    leases: new Map<string, LeaseRecord>(),
    testenvs: new Map<string, TestenvRecord>(),
    hosts: new Map<string, HostRecord>(),
  };
  const hosts = [makeHost("east", 2), makeHost("west", 1)];
  const answered = new Set<string>();
  const over = new Set<string>();
  /** When each holder last gave a sign of life that a broker still knows of. */
  const signs = new Map<string, number>();
  const activeEpochs = new Map<string, number>();
  let ledger: Ledger = restoreLedger(policy, { leases: [], testenvs: [], hosts: [] }, nowMs);

  const restored = (): Ledger =>
    restoreLedger(
      policy,
      {
        leases: [...durable.leases.values()],
        testenvs: [...durable.testenvs.values()],
        hosts: [...durable.hosts.values()],
      },
      nowMs,
    );

  /** `crash`: the broker dies before the record, after it, or not at all. */
  function happen(event: LedgerEvent, crash: "no" | "before" | "after" = "no"): boolean {
    const decision = decide(ledger, [event], nowMs);
    if (crash === "before") {
      restart();
      return false;
    }
    for (const effect of decision.effects) if (effect.kind === "record") record(effect);
    ledger = decision.ledger;
    checkGrants(decision.effects);
    check();
    if (crash === "after") {
      restart();
      return false;
    }
    for (const effect of decision.effects) deliver(effect);
    return decision.refusals[0] === null;
  }

  function record(effect: LedgerEffect & { kind: "record" }): void {
    if (effect.life === "lease") {
      expect(over.has(effect.id), "L6 an ended lease stays ended").toBe(false);
      durable.leases.set(effect.id, effect.body);
      if (effect.to === "ended") over.add(effect.id);
      if (effect.to === "active" && effect.from === "preparing") {
        signs.set(effect.id, nowMs); // only now can its holder act on it
        const { te, epoch } = grantOf(effect.body.state)!;
        expect(epoch, `L2 ${te}`).toBeGreaterThan(activeEpochs.get(te) ?? 0);
        activeEpochs.set(te, epoch);
      }
    } else if (effect.life === "testenv") {
      const before = durable.testenvs.get(effect.id)?.epoch ?? 0;
      expect(effect.body.epoch, "L2 epochs never go back").toBeGreaterThanOrEqual(before);
      durable.testenvs.set(effect.id, effect.body);
    } else durable.hosts.set(effect.id, effect.body);
  }

  /** A restored ledger is swept by its first event. */
  function check(restarted = false): void {
    const taken = new Set<string>();
    for (const lease of ledger.leases.values()) {
      const te = grantOf(lease.state)?.te;
      if (te === undefined) continue;
      expect(taken.has(te), `L1 ${te}`).toBe(false);
      taken.add(te);
      expect(ledger.testenvs.get(te)!.life.kind, "a granted TE is not ready").not.toBe("ready");
    }
    if (!restarted) checkSigns();
    for (const te of ledger.testenvs.values()) {
      if (te.life.kind !== "ready") continue;
      const proven = te.certificate?.epoch ?? -1;
      expect(proven, `L5 ${te.id}`).toBeGreaterThanOrEqual(activeEpochs.get(te.id) ?? 0);
    }
    const shelf = openShelf({ ...ledger, nowMs }, freeTestenvs(ledger, null));
    for (const lease of ledger.leases.values()) {
      if (lease.state.kind !== "waiting" || !lease.takeable) continue;
      expect(shelf.choose(lease, null), "no TE idles beside a waiter").toBe(undefined);
    }
    expect(ledger.index, "the index is that of the leases").toEqual(
      indexOf(ledger.leases.values()),
    );
    if (!restarted) expect(ledger.dueMs, "nothing due is left behind").toBeGreaterThan(nowMs);
    for (const lease of ledger.leases.values()) {
      expect(ledger.dueMs, "a lease is looked at in time").toBeLessThanOrEqual(
        leaseDueMs(policy, lease, nowMs),
      );
    }
    for (const host of ledger.hosts.values()) {
      expect(ledger.dueMs, "a host is looked at in time").toBeLessThanOrEqual(
        hostDueMs(policy, host),
      );
    }
    for (const id of answered) {
      expect(ledger.leases.has(id) || over.has(id), "L6 no lease is lost").toBe(true);
    }
  }

  /** L14: who holds a rack has called within the TTL. L11: who waits has, or has a stream. */
  function checkSigns(): void {
    for (const { id, state, alive } of ledger.leases.values()) {
      if (state.kind === "ending") continue;
      if (state.kind !== "active" && alive.streams > 0) continue;
      const silentMs = nowMs - (signs.get(id) ?? -Infinity);
      expect(silentMs, `L14 ${id} is ${state.kind}`).toBeLessThan(policy.holderTtlMs);
    }
  }

  function checkGrants(effects: readonly LedgerEffect[]): void {
    for (const effect of effects) {
      if (effect.kind !== "record" || effect.life !== "lease" || effect.event !== "granted")
        continue;
      const te = ledger.testenvs.get(grantOf(effect.body.state)?.te ?? "");
      if (!te) continue;
      for (const other of ledger.leases.values()) {
        if (other.order >= effect.body.order || other.state.kind !== "waiting") continue;
        const { testenvs, hosts: avoided } = other.request.avoid;
        const avoids = [...other.shunned, ...testenvs].includes(te.id) || avoided.includes(te.host);
        const passed = other.takeable && fits(ledger, te, other) && !avoids;
        expect(passed, "first come, first served").toBe(false);
      }
    }
  }

  function deliver(effect: LedgerEffect): void {
    if (!("hostId" in effect)) return;
    const host = hosts.find((one) => one.id === effect.hostId);
    if (effect.kind === "drop-session") {
      if (host) cut(host);
      return;
    }
    if (!host?.connected || effect.kind === "taken") return;
    const over = effect.kind === "end" ? effect : null;
    const ended = over && { lease: over.lease, epoch: over.epoch, reason: over.reason };
    hear(host, effect.number, ended);
  }

  function hear(host: HostModel, number: number, ended: WantedOfTestenv["ended"] = null): void {
    const te = ledger.testenvs.get(`${host.name}:${number}`);
    if (te) host.inbox.push({ number, wanted: wantedOf(ledger, te, ended) });
  }

  function restart(): void {
    ledger = restored();
    for (const id of ledger.leases.keys()) signs.set(id, nowMs);
    for (const host of hosts) cut(host);
    check(true);
  }

  function cut(host: HostModel): void {
    if (!host.connected) return;
    host.connected = false;
    host.inbox = [];
    if (ledger.hosts.has(host.id)) happen({ kind: "host-closed", hostId: host.id });
  }

  function connect(host: HostModel): void {
    if (host.connected || !host.alive) return;
    host.connected = true;
    host.inbox = [];
    host.said = []; // the hello tells all of it
    happen(helloOf(host));
    for (const [index] of host.racks.entries()) hear(host, index + 1); // the welcome
    if (host.connected) happen({ kind: "host-open", hostId: host.id });
  }

  /** The host reads one message of the broker. */
  function hostActs(host: HostModel): void {
    const message = host.inbox.shift();
    if (!message) return;
    const { number, wanted } = message;
    const rack = host.racks[number - 1]!;
    if (wanted.draining !== rack.draining) {
      rack.draining = wanted.draining;
      report(host, number);
    }
    if (wanted.epoch > rack.epoch) {
      // our record is an old one: whatever is there is unproved
      rack.epoch = wanted.epoch;
      fence(host, number, "te-lost");
    }
    const { lease, ended } = wanted;
    if (lease && (rack.lease !== lease.record.id || rack.epoch !== lease.epoch)) {
      if (lease.epoch <= rack.epoch) return report(host, number);
      rack.epoch = lease.epoch;
      if (rack.state === "leased") return fence(host, number, "te-lost");
      if (rack.state === "ready") {
        expect(rack.proved, "L5: prepared only when proved").toBe(rack.known);
        Object.assign(rack, {
          lease: lease.record.id,
          granted: lease.epoch,
          state: "leased",
          reason: null,
          deadlineMs: Date.parse("2026-01-01T00:00:00.000Z"),
          addedMs: 0,
        });
      }
      rack.known = rack.epoch;
      report(host, number);
    } else if (!lease && rack.state === "leased") {
      fence(host, number, ended?.lease === rack.lease ? ended.reason : "revoked");
    }
  }

  /** A level: what waits to be told of this rack is out of date. */
  function report(host: HostModel, number: number): void {
    const rest = host.said.filter((one) => !(one.kind === "report" && numberOf(one) === number));
    const report = reportOf(host, number);
    host.said = [...rest, { kind: "report", hostId: host.id, report }];
  }

  function fence(host: HostModel, number: number, reason: EndReason): void {
    const rack = host.racks[number - 1]!;
    Object.assign(rack, { state: "resetting", reason: rack.reason ?? reason, known: rack.epoch });
    report(host, number);
  }

  function prove(host: HostModel, number: number): void {
    const rack = host.racks[number - 1]!;
    if (rack.state !== "resetting" && rack.state !== "faulty") return;
    Object.assign(rack, { state: "ready", proved: rack.epoch, known: rack.epoch });
    rack.certified = certificateOf(host, number, rack);
    if (rack.backup.epoch === 0) rack.backup = { epoch: rack.epoch, certified: rack.certified };
    Object.assign(rack, { lease: null, reason: null });
    report(host, number);
  }

  /** A reset that fails; the next try of it is prove(). */
  function fail(host: HostModel, number: number): void {
    const rack = host.racks[number - 1]!;
    if (rack.state !== "resetting") return;
    rack.state = "faulty";
    report(host, number);
  }

  /** The lease's token asks for more time: what is let through, the host adds. */
  function extend(lease: Lease, ms: number): void {
    const grant = grantOf(lease.state);
    signs.set(lease.id, nowMs);
    if (!happen({ kind: "check-extend", id: lease.id, durationMs: ms })) return;
    const host = hosts.find((one) => grant?.te.startsWith(`${one.name}:`))!;
    const number = Number(grant!.te.split(":")[1]);
    const rack = host.racks[number - 1]!;
    if (!host.connected || rack.state !== "leased" || rack.lease !== lease.id) return;
    rack.deadlineMs += ms;
    rack.addedMs += ms;
    expect(120_000 + rack.addedMs, "L8 extensions within the policy").toBeLessThanOrEqual(
      policy.maxDurationMs,
    );
    report(host, number);
  }

  /** The broker reads one message of the host; its acknowledgement may be lost. */
  function hostHeard(host: HostModel, ackLost: boolean, crash: "no" | "before" | "after"): void {
    const message = host.said[0];
    if (!host.connected || !message) return;
    happen({ kind: "heard", hostId: host.id, vitals: null });
    happen(message, crash);
    if (ackLost || crash !== "no") cut(host);
    else host.said = host.said.slice(1);
  }

  return {
    hosts,
    get ledger() {
      return ledger;
    },
    connect,
    cut,
    hostActs,
    hostHeard,
    fence,
    prove,
    fail,
    extend,
    happen,
    /** A call with the lease's token. */
    call(event: LedgerEvent & { id: string }, crash: Crash = "no") {
      signs.set(event.id, nowMs);
      happen(event, crash);
    },
    /** Everybody is there and gives signs, while time goes on. */
    calm(ms: number) {
      for (let left = ms; left > 0; left -= 5_000) {
        nowMs += Math.min(left, 5_000);
        for (const host of hosts) {
          if (host.connected) happen({ kind: "heard", hostId: host.id, vitals: null });
        }
        for (const id of Array.from(ledger.leases.keys())) {
          signs.set(id, nowMs);
          happen({ kind: "renew", id });
        }
      }
    },
    restart,
    ask(changes: Partial<LeaseRequest>, crash: Crash) {
      const id = `lease-${++asked}`;
      const wants = { ...request, ...changes };
      signs.set(id, nowMs);
      const event = {
        kind: "ask",
        id,
        request: wants,
        caller: "c",
        group: "g",
        tenant: "t",
        paired: false,
      } as const;
      if (happen(event, crash)) answered.add(id);
    },
    pass(ms: number) {
      nowMs += ms;
      happen({ kind: "tick" });
    },
    crashHost(host: HostModel) {
      host.said = []; // what it had not sent is gone; its record is not
      cut(host);
      for (const rack of host.racks) if (rack.state === "resetting") rack.lease ??= null;
    },
    /** The host comes back with its record of an earlier day: clean, and proved, as it was then. */
    yesterday(host: HostModel) {
      host.said = [];
      cut(host);
      for (const rack of host.racks) {
        const { epoch, certified } = rack.backup;
        const then = { epoch, proved: epoch, known: epoch, certified, state: "ready" as const };
        Object.assign(rack, { ...then, lease: null, reason: null });
      }
    },
    lease(pick: number) {
      const all = [...ledger.leases.values()];
      return all[pick % Math.max(1, all.length)];
    },
    durable,
    restored,
  };
}

function makeHost(name: string, racks: number): HostModel {
  return {
    name,
    id: `id-of-${name}`,
    racks: Array.from({ length: racks }, () => ({
      epoch: 0,
      lease: null,
      reason: null,
      state: "ready" as const,
      deadlineMs: 0,
      addedMs: 0,
      proved: 0,
      known: 0,
      granted: 0,
      draining: false,
      backup: { epoch: 0, certified: null },
      certified: null,
    })),
    said: [],
    inbox: [],
    connected: false,
    alive: true,
  };
}

function certificateOf(host: HostModel, number: number, rack: Rack) {
  return {
    schema: "reset/1" as const,
    host: host.name,
    te: number,
    epoch: rack.proved,
    lease: rack.lease,
    reason: "released",
    began: "2026-01-01T00:00:00.000Z",
    ended: "2026-01-01T00:00:00.000Z",
    durationMs: 1,
    signature: `ed25519:${host.name}/${number}/${rack.proved}`,
  };
}

function reportOf(host: HostModel, number: number): CheckedReport {
  const rack = host.racks[number - 1]!;
  const held = rack.lease !== null;
  const report = sampleReport({
    number,
    kind: number === 1 ? "one" : "two",
    state: rack.state,
    epoch: String(rack.epoch),
    draining: rack.draining,
    lease: rack.lease,
    leaseEpoch: held ? String(rack.granted) : null,
    deadlineAt: rack.state === "leased" ? new Date(rack.deadlineMs).toISOString() : null,
    detail: rack.state === "faulty" ? "a disk does not let go" : null,
    ended:
      held && rack.state !== "leased"
        ? { reason: rack.reason ?? "te-lost", fencedAt: "2026-01-01T00:00:00.000Z" }
        : null,
    machines: { count: number, memoryMiB: 256, cpus: 1, diskGiB: 4 },
    certificate:
      rack.state === "ready" ? (rack.certified ?? certificateOf(host, number, rack)) : null,
  });
  return { report, proof: { kind: "valid" } };
}

function numberOf(said: HostSaid & { kind: "report" }): number {
  return said.report.report.number;
}

function helloOf(host: HostModel): HostSaid {
  const reports = host.racks.map((_, index) => reportOf(host, index + 1));
  return {
    kind: "hello",
    facts: sampleFacts({ hostId: host.id, name: host.name }),
    reports,
    processes: [],
  };
}

type Crash = "no" | "before" | "after";
const crashes = fc.constantFrom<Crash[]>("no", "no", "no", "before", "after");
const hostPick = fc.integer({ min: 0, max: 1 });
const step = fc.oneof(
  fc.record({
    do: fc.constant("ask"),
    count: fc.constantFrom(1, 1, 2),
    requeue: fc.boolean(),
    avoid: fc.constantFrom("none", "east", "east:1", "west:1"),
    waitSeconds: fc.constantFrom(undefined, undefined, 0, 70),
    crash: crashes,
  }),
  fc.record({
    do: fc.constant("ask"),
    count: fc.constant(1),
    requeue: fc.constant(false),
    avoid: fc.constant("none"),
    waitSeconds: fc.constant(undefined),
    crash: fc.constant("no"),
  }),
  fc.record({ do: fc.constant("look"), pick: fc.nat(9) }),
  fc.record({ do: fc.constant("take"), pick: fc.nat(9), crash: crashes }),
  fc.record({ do: fc.constant("release"), pick: fc.nat(9), crash: crashes }),
  fc.record({ do: fc.constant("patch"), pick: fc.nat(9), on: fc.boolean() }),
  fc.record({ do: fc.constant("renew"), pick: fc.nat(9) }),
  fc.record({ do: fc.constant("revoke"), pick: fc.nat(9), crash: crashes }),
  fc.record({ do: fc.constant("stream-opened"), pick: fc.nat(9) }),
  fc.record({ do: fc.constant("stream-closed"), pick: fc.nat(9), lost: fc.boolean() }),
  fc.record({ do: fc.constant("extend"), pick: fc.nat(9), ms: fc.constantFrom(60_000, 200_000) }),
  fc.record({ do: fc.constant("fail"), host: hostPick, rack: fc.nat(1) }),
  fc.record({ do: fc.constant("calm"), ms: fc.constantFrom(20_000, 61_000, 130_000) }),
  fc.record({ do: fc.constant("connect"), host: hostPick }),
  fc.record({ do: fc.constant("cut"), host: hostPick }),
  fc.record({ do: fc.constant("crash-host"), host: hostPick }),
  fc.record({ do: fc.constant("yesterday"), host: hostPick }),
  fc.record({ do: fc.constant("drain"), host: hostPick, rack: fc.nat(1), on: fc.boolean() }),
  fc.record({ do: fc.constant("acts"), host: hostPick }),
  fc.record({ do: fc.constant("hears"), host: hostPick, ackLost: fc.boolean(), crash: crashes }),
  fc.record({ do: fc.constant("prove"), host: hostPick, rack: fc.nat(1) }),
  fc.record({ do: fc.constant("expire"), host: hostPick, rack: fc.nat(1) }),
  fc.record({
    do: fc.constant("pass"),
    ms: fc.constantFrom(10, 1_000, 5_000, 12_000, 31_000, 61_000),
  }),
  fc.record({ do: fc.constant("restart") }),
  // what mostly happens: messages flow, resets finish, holders take
  fc.record({ do: fc.constant("flow"), host: hostPick, ackLost: fc.boolean() }),
  fc.record({ do: fc.constant("flow"), host: hostPick, ackLost: fc.constant(false) }),
);
type World = ReturnType<typeof openWorld>;
type Step = Record<string, unknown> & { do: string };

function perform(world: World, s: Step): void {
  const host = world.hosts[(s["host"] as number) ?? 0]!;
  const crash = (s["crash"] as "no" | "before" | "after") ?? "no";
  const rack = Math.min((s["rack"] as number) ?? 0, host.racks.length - 1);
  const lease = world.lease((s["pick"] as number) ?? 0);
  if (s.do === "ask") world.ask(askedFor(s), crash);
  if (s.do === "look" && lease) world.call({ kind: "look", id: lease.id });
  if (s.do === "renew" && lease) world.call({ kind: "renew", id: lease.id });
  if (s.do === "take" && lease) world.call({ kind: "take", id: lease.id }, crash);
  if (s.do === "revoke" && lease) world.happen({ kind: "revoke", id: lease.id }, crash);
  if (s.do === "stream-opened" && lease) world.call({ kind: "stream-opened", id: lease.id });
  if (s.do === "stream-closed" && lease && lease.alive.streams > 0) {
    world.call({ kind: "stream-closed", id: lease.id, lost: s["lost"] as boolean });
  }
  if (s.do === "extend" && lease) world.extend(lease, s["ms"] as number);
  if (s.do === "fail") world.fail(host, rack + 1);
  if (s.do === "calm") world.calm(s["ms"] as number);
  if (s.do === "release" && lease) world.happen({ kind: "release", id: lease.id }, crash);
  if (s.do === "patch" && lease) {
    world.call({
      kind: "patch",
      id: lease.id,
      takeable: s["on"] as boolean,
      addresses: null,
      paired: false,
    });
  }
  if (s.do === "connect") world.connect(host);
  if (s.do === "cut") world.cut(host);
  if (s.do === "crash-host") world.crashHost(host);
  if (s.do === "yesterday") world.yesterday(host);
  if (s.do === "drain") {
    world.happen({ kind: "drain", te: `${host.name}:${rack + 1}`, on: s["on"] as boolean });
  }
  if (s.do === "acts") world.hostActs(host);
  if (s.do === "hears") world.hostHeard(host, s["ackLost"] as boolean, crash);
  if (s.do === "prove") world.prove(host, rack + 1);
  if (s.do === "expire" && host.racks[rack]!.state === "leased")
    world.fence(host, rack + 1, "expired");
  if (s.do === "pass") world.pass(s["ms"] as number);
  if (s.do === "restart") world.restart();
  if (s.do === "flow") {
    world.connect(host);
    while (host.inbox.length > 0) world.hostActs(host);
    for (const [index] of host.racks.entries()) world.prove(host, index + 1);
    while (host.said.length > 1) world.hostHeard(host, false, "no");
    world.hostHeard(host, s["ackLost"] as boolean, "no");
    world.connect(host);
  }
}

function askedFor(s: Step): Partial<LeaseRequest> {
  const avoid = s["avoid"] as string;
  const waitSeconds = s["waitSeconds"] as number | undefined;
  return {
    machines: { count: s["count"] as number },
    requeue: s["requeue"] as boolean,
    avoid: {
      hosts: avoid === "east" ? [avoid] : [],
      testenvs: avoid.includes(":") ? [avoid] : [],
    },
    ...(waitSeconds === undefined ? {} : { waitSeconds }),
  };
}

/** Everything works again and nobody asks any more: all must come to rest. */
function settle(world: World): void {
  for (const { id, alive } of Array.from(world.ledger.leases.values())) {
    for (let n = alive.streams; n > 0; n--) {
      world.call({ kind: "stream-closed", id, lost: true });
    }
  }
  for (let round = 0; round < 70; round++) {
    for (const host of world.hosts) {
      world.connect(host);
      while (host.inbox.length > 0) world.hostActs(host);
      while (host.said.length > 0) world.hostHeard(host, false, "no");
      for (const [index] of host.racks.entries()) world.prove(host, index + 1);
      world.happen({ kind: "heard", hostId: host.id, vitals: null });
    }
    world.pass(2_000);
  }
}

test("L1 L2 L5 L6 L11 hold, order is first come first served, and all comes to rest", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 150, size: "max" }), (steps) => {
      const world = openWorld();
      for (const host of world.hosts) world.connect(host);
      for (const one of steps) perform(world, one);
      settle(world);
      expect([...world.ledger.leases.values()].map((lease) => lease.state)).toEqual([]); // L11
      for (const te of world.ledger.testenvs.values()) {
        expect(te.life, te.id).toEqual({ kind: "ready" });
        expect(te.certificate!.epoch).toBe(te.hostEpoch);
        expect(te.certificate!.epoch, "L5 proved for its present epoch").toBe(te.epoch);
        const host = world.hosts.find(({ id }) => id === te.hostId)!;
        expect(host.racks[te.number - 1]!.draining, "the drain flag").toBe(te.draining);
      }
    }),
    { numRuns: 120 }, // all of them: an interrupted run would be no run
  );
});

test("L6 the ledger restored from its records is the ledger, in the order of the queue", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), (steps) => {
      const world = openWorld();
      for (const host of world.hosts) world.connect(host);
      for (const one of steps) perform(world, one);
      const lasting = (ledger: Ledger) =>
        [...ledger.leases.values()]
          .sort((a, b) => a.order - b.order)
          .map(({ alive: _alive, ...record }) => record);
      expect(lasting(world.restored())).toEqual(lasting(world.ledger));
      expect([...world.restored().testenvs]).toEqual([...world.ledger.testenvs]);
    }),
    { numRuns: 100 },
  );
});
