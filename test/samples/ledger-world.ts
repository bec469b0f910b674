/**
 * A model of hosts, racks and their sessions around the broker's ledger, for random histories:
 * messages lost, doubled and late, broker and hosts that crash, a store that keeps exactly what
 * was recorded. Looks after every event whether the ledger's invariants hold.
 */
import { expect } from "vitest";
import type { EndReason, LeaseRequest } from "../../src/model/lease.ts";
import type { Certificate } from "../../src/model/testenv.ts";
import { decide } from "../../src/lease/ledger/decide.ts";
import { hostDueMs, leaseDueMs } from "../../src/lease/ledger/due.ts";
import { indexOf } from "../../src/lease/ledger/ledger-index.ts";
import type {
  CheckedReport,
  HostSaid,
  LedgerEffect,
  LedgerEvent,
} from "../../src/lease/ledger/ledger-event.ts";
import { grantOf } from "../../src/lease/ledger/ledger-state.ts";
import type {
  HostRecord,
  Lease,
  LeaseRecord,
  Ledger,
  TestenvRecord,
} from "../../src/lease/ledger/ledger-state.ts";
import { fits, freeTestenvs, openShelf } from "../../src/lease/ledger/matching.ts";
import { restoreLedger } from "../../src/lease/ledger/restoring.ts";
import { wantedOf } from "../../src/lease/ledger/wanted.ts";
import type { WantedOfTestenv } from "../../src/lease/ledger/wanted.ts";
import { samplePolicy, sampleRequest } from "./leases.ts";
import { sampleFacts, sampleReport } from "./hosts.ts";

export type Crash = "no" | "before" | "after";

const policy = samplePolicy({ waiters: 100, leasesPerHolder: 100 });

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

const request = sampleRequest({
  durationSeconds: 120,
  holder: { name: "someone", addresses: [] },
});

/** One world: the ledger, what is durable of it, two hosts, and what must hold. */
export function openWorld() {
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
