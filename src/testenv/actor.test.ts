/**
 * What takes away acts first and records after: disks that are full, records and fences that fail
 * for a while, openings that are slow, a host that was booted.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  directory,
  expectProved,
  lease,
  makeReady,
  newHost,
  parts,
  settle,
  soil,
  startAgent,
  stateOf,
  terms,
} from "../../test/samples/rack-agent.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";
import { lastPower } from "./power.ts";

test("L4 L6 no record can be written: the fence is raised all the same, told as a trouble, and the rest follows by itself", async () => {
  for (const event of ["end", "deadline", "parts-broken"] as const) {
    const host = newHost();
    await makeReady(host);
    let full = false;
    const agent = await startAgent(host, { fails: (call) => full && call.startsWith("save") });
    await agent.actor.post({ kind: "prepare", terms });
    await settle(host, agent, ["leased"]);
    await soil(host);
    full = true;
    const posted =
      event === "end"
        ? agent.actor.post({ kind: event, lease, epoch: 7, reason: "released" })
        : event === "deadline"
          ? agent.actor.post({ kind: event, epoch: 7 })
          : agent.actor.post({ kind: event, detail: "x" });
    await until(() => host.keys.size === 0 && host.connections.size === 0, {
      timeoutMs: 1_000,
      everyMs: 1,
      what: "the fence",
    });
    expect(agent.actor.testenv.phase.state).toBe("resetting");
    await until(() => agent.troubles().length > 0, { timeoutMs: 1_000, what: "a trouble" });
    expect(agent.troubles()[0]?.what).toBe("the record of te1");
    // it goes no further: the reset would destroy what a record of a lease still speaks of
    expect(host.record?.phase.state).toBe("leased");
    expect(host.world.domains.values().next().value?.power).toBe("on");
    full = false;
    await posted;
    await settle(host, agent, ["ready"]);
    expectProved(host, 7);
    expect(agent.troubles()).toEqual([]);
    await agent.actor.close();
    await rm(join(directory, "recorder"), { recursive: true, force: true });
  }
});

test("L4 an end overtakes records that cannot be written, and what they would have opened stays shut", async () => {
  const host = newHost();
  await makeReady(host);
  let full = true;
  const saves = new Set<string>();
  const fails = (call: string): boolean => {
    if (call.startsWith("save")) saves.add(call);
    return full && call.startsWith("save");
  };
  const agent = await startAgent(host, { fails });
  const prepared = agent.actor.post({ kind: "prepare", terms });
  const ended = agent.actor.post({ kind: "end", lease, epoch: 7, reason: "released" });
  await until(() => agent.troubles().length > 0, { timeoutMs: 1_000, what: "a trouble" });
  full = false;
  await Promise.all([prepared, ended]);
  await settle(host, agent, ["ready"]);
  expectProved(host, 7);
  const told = host.told.map(({ state }) => state);
  expect(told).not.toContain("leased");
  expect(told, "a key was installed after the fence").not.toContain("faulty");
  // one transaction, every step of it
  expect([...saves][0]).toBe("save prepare end");
});

test("L6 a lease that is not recorded yet is told to nobody, whoever asks for the list", async () => {
  const host = newHost();
  await makeReady(host);
  let full = true;
  const agent = await startAgent(host, { fails: (call) => full && call === "save opened" });
  await agent.actor.post({ kind: "prepare", terms });
  await until(() => agent.troubles().length > 0, { timeoutMs: 1_000, what: "a trouble" });
  expect(agent.actor.testenv.phase.state).toBe("leased");
  expect(agent.actor.told.phase.state).toBe("preparing");
  full = false;
  await settle(host, agent, ["leased"]);
  await until(() => agent.actor.told.phase.state === "leased", { timeoutMs: 1_000, what: "told" });
  await agent.actor.close();
});

test("H-1.11 L5 after a reboot of the host a leased rack is lost, reset and proved before it is ready", async () => {
  const host = newHost();
  await makeReady(host);
  const before = await startAgent(host, {});
  await before.actor.post({ kind: "prepare", terms });
  await settle(host, before, ["leased"]);
  await soil(host);
  await before.actor.close();
  // the same world: the lease goes on, and nothing of it is touched
  const again = await startAgent(host, {});
  expect(stateOf(host)).toBe("leased");
  expect(host.keys.size).toBe(1);
  await again.actor.close();
  host.told.length = 0;
  const rebooted = await startAgent(host, {}, true);
  await settle(host, rebooted, ["ready"]);
  expectProved(host, 7);
  const phase = host.record?.phase;
  expect(phase?.state === "ready" && phase.certificate).toMatchObject({ lease, reason: "te-lost" });
  expect(host.told.map(({ state }) => state)).toEqual(["resetting", "resetting", "ready"]);
});

test("L4 an opening that is slow cannot outrun the fence: what it installs late is closed again", async () => {
  const host = newHost();
  await makeReady(host);
  const opening = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const atFence: number[] = [];
  const agent = await startAgent(host, {
    fails: (call) => (call === "save fenced" && atFence.push(host.keys.size), false),
    async holds(call) {
      if (call !== "gate.open") return;
      opening.resolve();
      await go.promise;
    },
  });
  await agent.actor.post({ kind: "prepare", terms });
  await opening.promise;
  await agent.actor.post({ kind: "end", lease, epoch: 7, reason: "cancelled" });
  expect(host.keys.size).toBe(0);
  go.resolve(); // the key line is written now, for a lease that is over
  await settle(host, agent, ["ready"]);
  expect(atFence).toEqual([0]);
  expect(host.told.map(({ state }) => state)).not.toContain("faulty");
  expectProved(host, 7);
});

test("L4 T8 a fence that fails is raised until it stands; a full disk of the host counts no try", async () => {
  const host = newHost();
  await makeReady(host);
  let closes = 0;
  let makes = 0;
  const agent = await startAgent(host, {
    fails: (call) =>
      (call === "gate.close" && ++closes <= 8) ||
      (call === "disks.createOverlay" && ++makes <= 8 && "No space left on device"),
  });
  await agent.actor.post({ kind: "prepare", terms });
  await settle(host, agent, ["leased"]);
  await soil(host);
  closes = 0;
  makes = 0;
  await agent.actor.post({ kind: "end", lease, epoch: 7, reason: "released" });
  await settle(host, agent, ["ready"]);
  expectProved(host, 7);
  expect(closes).toBeGreaterThan(8);
  expect(makes).toBeGreaterThan(8);
  expect(host.told.map(({ state }) => state)).not.toContain("quarantined");
});

test("L4 H-4.5 a libvirt that never answers keeps no fence: it stands within a second, and is told", async () => {
  const host = newHost();
  await makeReady(host);
  const libvirtHangs = (call: string): Promise<void> =>
    call.startsWith("domains.") ? new Promise(() => undefined) : Promise.resolve();
  const agent = await startAgent(host, { holds: libvirtHangs });
  await agent.actor.post({ kind: "prepare", terms });
  await settle(host, agent, ["leased"]); // a lease is given without it, too
  await soil(host);
  const beganMs = performance.now();
  await agent.actor.post({ kind: "end", lease, epoch: 7, reason: "released" });
  const fencedAt = () => {
    const phase = host.record?.phase;
    return phase?.state === "resetting" ? phase.endedAt : null;
  };
  await until(() => fencedAt() !== null, { timeoutMs: 1_000, everyMs: 1, what: "the fence" });
  expect(performance.now() - beganMs).toBeLessThan(1_000);
  expect(host.keys.size + host.connections.size).toBe(0);
  expect(agent.idle()).toBe(true);
});

test("H-4.5 power in a report is the last list's, without a wait, and unknown once it is old", () => {
  const { spec } = parts().seed;
  const mark = { ...spec.mark };
  const on = { name: spec.name, uuid: spec.uuid, power: "on" as const, mark, plan: null };
  const seenFor = (ageMs: number | undefined) => {
    const last = ageMs === undefined ? undefined : { domains: [on], ageMs };
    return lastPower({ domains: { lastList: () => last } }, parts());
  };
  expect(seenFor(0)).toEqual(new Set([spec.name]));
  expect(seenFor(89_000)).toEqual(new Set([spec.name]));
  expect(seenFor(91_000)).toBeUndefined();
  expect(seenFor(undefined)).toBeUndefined();
});

test("L7 a lease whose opening cannot be recorded ends at its deadline all the same", async () => {
  const host = newHost();
  await makeReady(host);
  let full = true;
  const keys: number[] = [];
  const fails = (call: string): boolean => {
    if (call === "save opened") keys.push(host.keys.size);
    return full && call === "save opened";
  };
  const agent = await startAgent(host, { fails });
  // the host adds its slack of some seconds: what is asked for is over before it began
  const over = { ...terms, durationMs: 300 - limits.deadlineSlackMs };
  await agent.actor.post({ kind: "prepare", terms: over });
  await until(() => keys[0] === 1, { timeoutMs: 1_000, what: "the key" });
  await until(() => host.keys.size === 0, { timeoutMs: 5_000, what: "the fence" });
  expect(host.record?.phase.state).toBe("preparing");
  full = false;
  await settle(host, agent, ["ready"]);
  expectProved(host, 7);
});
