/** Turning machines on and off (H-3.7), over the hypervisor in memory. */
import { expect, test } from "vitest";
import { kindSchema } from "../model/machine.ts";
import { simHypervisor } from "../sim/hypervisor.ts";
import { partsOf } from "./parts.ts";
import { openPower } from "./power.ts";
import type { Power } from "./power.ts";

const never = new AbortController().signal;
const kind = kindSchema.parse({ machines: { count: 3, running: 2 } });
const ground = {
  hostId: "11111111-2222-4333-8444-555555555555",
  macKey: "key",
  disksFolder: "/d",
  consolesFolder: "/c",
  socketsFolder: "/s",
  mtu: 1500,
  testBridge: "br-ctlplane",
  seedIp: () => "10.99.0.11",
};

async function rack(freeMiB = 8_192) {
  const calls: string[] = [];
  const hypervisor = simHypervisor(async (call) => void calls.push(call));
  const parts = partsOf(ground, 1, "three", kind);
  for (const { spec } of parts.all) await hypervisor.domains.define(spec);
  const power = openPower(hypervisor.domains, () => Promise.resolve(freeMiB));
  calls.length = 0;
  const act: Power["act"] = (...given) => power.act(...given);
  return { parts, power, calls, act, machine: parts.machines };
}

test("H-3.7 on is start, off is destroy; what is so already is left alone", async () => {
  const { parts, machine, act, power } = await rack();
  expect(await act(parts, machine[0]!, "start", never)).toBe("done");
  expect(await act(parts, machine[0]!, "start", never)).toBe("was-so");
  expect(await power.running(parts)).toEqual(new Set([machine[0]!.spec.name]));
  expect(await act(parts, machine[0]!, "destroy", never)).toBe("done");
  expect(await act(parts, machine[0]!, "destroy", never)).toBe("was-so");
  expect(await act(parts, machine[0]!, "reset", never)).toBe("was-so");
  expect((await power.running(parts)).size).toBe(0);
});

test("H-3.7 a cycle, destroy and start at once, ends on: commands of a rack keep their order", async () => {
  const { parts, machine, act, power, calls } = await rack();
  await act(parts, machine[0]!, "start", never);
  calls.length = 0;
  const cycle = ["destroy", "start"] as const;
  await Promise.all(cycle.map((verb) => act(parts, machine[0]!, verb, never)));
  const did = calls.filter((call) => call.endsWith("destroy") || call.endsWith("start"));
  expect(did).toEqual(["domains.destroy", "domains.start"]);
  expect((await power.running(parts)).size).toBe(1);
});

test("H-1.8 three starts at once keep to the kind's `running`; the seed does not count", async () => {
  const { parts, machine, act, power } = await rack();
  await act(parts, parts.seed, "start", never);
  const outcomes = await Promise.allSettled(machine.map((one) => act(parts, one, "start", never)));
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected"]);
  expect((await power.running(parts)).size).toBe(3);
  await act(parts, machine[0]!, "destroy", never);
  expect(await act(parts, machine[2]!, "start", never)).toBe("done");
});

test("H-1.8 a start that the host's memory does not allow is refused, and so is one after the lease", async () => {
  const { parts, machine, act, power } = await rack(100);
  await expect(act(parts, machine[0]!, "start", never)).rejects.toMatchObject({
    code: "unavailable",
  });
  const over = AbortSignal.abort(new Error("the lease is over"));
  await expect(act(parts, machine[0]!, "destroy", over)).rejects.toThrow("the lease is over");
  expect((await power.running(parts)).size).toBe(0);
});
