/** A sign of life asks nobody (issue 6 §3): whatever hangs, the next one goes out in time. */
import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { silentLog } from "../../base/log.ts";
import { openTroubles } from "../../base/troubles.ts";
import { simHypervisor } from "../../sim/hypervisor.ts";
import { handClock } from "../../../test/samples/clock.ts";
import { until } from "../../base/wait.ts";
import type { FromHost } from "../../session/session-port.ts";
import { beat } from "./heartbeat.ts";
import { openPasses } from "./passes.ts";
import { hostProbes, runProbes } from "./probes.ts";

type Heartbeat = Extract<FromHost, { kind: "heartbeat" }>;
const forEver = (): Promise<void> => new Promise(() => undefined);

/** The agent's loops over a hypervisor that this gate holds or fails. */
function openHost(gate: (call: string) => Promise<void>) {
  const clock = handClock();
  const stop = new AbortController();
  const { signal } = stop;
  const hypervisor = simHypervisor(gate);
  const openOwn = () => openTroubles({ log: silentLog, wallMs: () => clock.wallMs() });
  const troubles = { host: openOwn(), racks: openOwn() };
  const faults: string[] = [];
  const told: string[] = [];
  const beats: Heartbeat[] = [];
  const passes = openPasses({
    hypervisor,
    parts: [],
    after: () => Promise.resolve(),
    clock,
    log: silentLog,
  });
  const testenvs = { faults: () => faults, probeGate: () => gate("gate.probe") };
  const done = Promise.all([
    passes.run(signal),
    runProbes({
      probes: hostProbes(hypervisor, testenvs),
      clock,
      troubles: troubles.host,
      wantPass: () => undefined,
      onTrouble: (what) => told.push(what),
      signal,
    }),
    beat(
      { hypervisor, passes, testenvs, troubles, state: tmpdir(), clock },
      (message) => void (message.kind === "heartbeat" && beats.push(message)),
      signal,
    ),
  ]);
  return {
    clock,
    beats,
    told,
    faults,
    troubles,
    /** Moves on by so many heartbeats; gives the last one. */
    async live(count: number): Promise<Heartbeat> {
      const wanted = beats.length + count;
      while (beats.length < wanted) {
        const before = beats.length;
        await clock.advance(5_000);
        await until(() => beats.length > before, { timeoutMs: 2_000, everyMs: 1, what: "a beat" });
      }
      return beats.at(-1)!;
    },
    /** The passes' loop ends with its pass, which may hang for ever. */
    stop: (): void => stop.abort(),
    done,
  };
}

test("H-4.5 with every call of the hypervisor held for ever, heartbeats go on and say so", async () => {
  const host = openHost(forEver);
  const last = await host.live(12);
  expect(last.health).toBe("degraded");
  for (const what of ["a login at the gate", "an answer of libvirt", "an offer of DHCP"]) {
    expect(last.problems.join("\n")).toContain(`${what} fails: no answer within 10 s`);
    expect(host.told.filter((one) => one === what)).toHaveLength(1); // one interruption, not one a try
  }
  host.stop();
});

test("a pass that never ends is said after ten minutes", async () => {
  const host = openHost((call) => (call === "mend" ? forEver() : Promise.resolve()));
  expect((await host.live(12)).health).toBe("ok");
  const last = await host.live(110);
  expect(last).toMatchObject({ health: "degraded" });
  expect(last.problems.join()).toMatch(/^a pass fails: a pass has been running for 6\d\d s/);
  host.stop();
});

test("a host is ok again when what failed works; one failure alone is none", async () => {
  let fails = 1;
  const host = openHost(async (call) => {
    if (call === "gate.probe" && fails-- > 0) throw new Error("Permission denied (publickey).");
  });
  await host.clock.advance(400);
  expect(fails).toBe(0); // it failed, and is made again after a second at most
  expect(host.troubles.host.list()).toEqual([]);
  expect((await host.live(2)).health).toBe("ok");
  expect(host.told).toEqual([]);
  fails = Infinity; // longer than from one beat to the next
  const last = await host.live(12);
  expect(host.told).toEqual(["a login at the gate"]);
  expect(last.problems[0]).toMatch(/^a login at the gate fails: Permission denied/);
  fails = 0;
  expect((await host.live(24)).health).toBe("ok");
  host.stop();
  await host.done;
});

test("a faulty rack is told and leaves its host ok", async () => {
  const host = openHost(() => Promise.resolve());
  host.faults.push("te3 is quarantined: its bridge has 2 flows");
  host.troubles.racks.begin("the fence of te4", "ovs-ofctl: no answer");
  const last = await host.live(2);
  expect(last.health).toBe("ok");
  expect(last.problems).toEqual([
    "te3 is quarantined: its bridge has 2 flows",
    "the fence of te4 fails: ovs-ofctl: no answer",
  ]);
  host.stop();
  await host.done;
});
