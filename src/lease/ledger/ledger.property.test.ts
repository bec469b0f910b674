// Random histories against a model of hosts and of their sessions (test/samples/ledger-world.ts).
import fc from "fast-check";
import { expect, test } from "vitest";
import { openWorld } from "../../../test/samples/ledger-world.ts";
import type { Crash } from "../../../test/samples/ledger-world.ts";
import type { LeaseRequest } from "../../model/lease.ts";
import type { Ledger } from "./ledger-state.ts";

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
