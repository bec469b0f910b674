/** A reset's order, and its proof: a planted defect for each field, and no certificate is given. */
import { expect, test } from "vitest";
import {
  expectProved,
  lease,
  liveLease,
  makeReady,
  newHost,
  parts,
  settle,
  soil,
  startAgent,
  stateOf,
  terms,
} from "../../test/samples/rack-agent.ts";
import type { Host } from "../../test/samples/rack-agent.ts";
import { seedRule } from "./parts.ts";

test("H-8.1 the reset's steps come in their order: fence, stop, wipe, network, proof", async () => {
  const host = newHost();
  await makeReady(host);
  const calls: string[] = [];
  const agent = await startAgent(host, { fails: (call) => (calls.push(call), false) });
  await agent.actor.post({ kind: "prepare", terms });
  await settle(host, agent, ["leased"]);
  await soil(host);
  calls.length = 0;
  await agent.actor.post({ kind: "end", lease, epoch: 7, reason: "released" });
  await settle(host, agent, ["ready"]);
  const last = (call: string): number => calls.lastIndexOf(call);
  const steps: [number, number][] = [
    [last("gate.close done"), calls.indexOf("gate.settled")],
    [last("gate.settled"), calls.indexOf("domains.destroy")],
    [last("domains.destroy done"), calls.indexOf("disks.createOverlay")],
    [last("disks.createOverlay done"), calls.indexOf("bridges.remakePrivate")],
    [last("bridges.remakePrivate done"), calls.indexOf("bridges.facts")],
  ];
  for (const [end, begin] of steps) {
    expect(end).toBeGreaterThanOrEqual(0);
    expect(begin).toBeGreaterThan(end);
  }
  expect(last("gate.facts")).toBeGreaterThan(last("bridges.remakePrivate done"));
});

test("H-8.5 a reset that keeps failing leaves the TE quarantined, without a certificate", async () => {
  const host = newHost();
  await makeReady(host);
  await liveLease(host, { fails: (call) => call === "bridges.remakePrivate" }, false);
  expect(host.record?.phase.state).toBe("quarantined");
  const states = host.told.map(({ state }) => state);
  expect(states.filter((state) => state === "faulty")).toHaveLength(2);
  expect(states.filter((state) => state === "quarantined")).toHaveLength(1);
  expect(states.filter((state) => state === "ready")).toHaveLength(1);
  // each start of an agent tries it once: three times again, as the same fault is there
  const still = await startAgent(host, { fails: (call) => call === "bridges.remakePrivate" });
  await settle(host, still, ["resetting", "faulty"]);
  await settle(host, still, ["quarantined"]);
  expect(host.told.filter(({ state }) => state === "faulty")).toHaveLength(4);
  await still.actor.close();
});

test.each([false, true])(
  "H-8.5 a quarantined TE comes back with the agent's next start (new world: %s)",
  async (newWorld) => {
    const host = newHost();
    await makeReady(host);
    await liveLease(host, { fails: (call) => call === "bridges.remakePrivate" }, false);
    expect(host.record?.phase.state).toBe("quarantined");
    const agent = await startAgent(host, {}, newWorld);
    await settle(host, agent, ["ready"]);
    expectProved(host, 7);
    await agent.actor.close();
  },
);

test("H-8.5 a quarantined TE comes back when an operator orders its reset", async () => {
  const host = newHost();
  await makeReady(host);
  let broken = true;
  const agent = await startAgent(host, {
    fails: (call) => broken && call === "bridges.remakePrivate",
  });
  await agent.actor.post({ kind: "order-reset" });
  await settle(host, agent, ["quarantined"]);
  broken = false;
  await agent.actor.post({ kind: "order-reset" });
  await settle(host, agent, ["ready"]);
  expect(host.told.at(-1)?.state).toBe("ready");
  expectProved(host, 0);
  await agent.actor.close();
});

test("H-8.5 the proof finds what a step left behind", async () => {
  const spoilt: [string, (host: Host) => void][] = [
    ["a port on the bridge", spoilBridge],
    ["an ssh key", (host) => void host.keys.set(1, "old")],
    ["an open connection", (host) => void host.connections.add("ssh")],
    ["a lease", (host) => void host.world.leases.set(parts().seed.spec.nics[0]!.mac, "10.99.0.11")],
    ["an open port", (host) => void (host.world.rules = [seedRule(parts(), ["10.99.0.9"])])],
  ];
  for (const [what, spoil] of spoilt) {
    const host = newHost();
    await makeReady(host);
    // somebody dirties the rack again between the steps and the proof
    const meddle = (call: string): boolean => (call === "gate.facts" && spoil(host), false);
    const late = (call: string): boolean => (call === "bridges.facts" && spoil(host), false);
    const agent = await startAgent(host, { fails: (call) => meddle(call) || late(call) });
    await agent.actor.post({ kind: "order-reset" });
    await settle(host, agent, ["faulty", "quarantined", "ready"]);
    expect(host.told.map(({ detail }) => detail).join(), what).toContain("proof of 1");
    await agent.actor.close();
  }
});

/** Fields of the certificate, and what somebody did past us between the steps and the proof. */
const planted: [string, (host: Host) => void, RegExp][] = [
  ["media", (host) => void (seedOf(host).media = ["/evil.iso"]), /evil\.iso in its drive/],
  ["bootDevice", (host) => spoilBoot(host), /boots from cdrom/],
  ["nvram", (host) => void (seedOf(host).nvram = "/x.fd"), /has an NVRAM/],
  ["definition", (host) => void (seedOf(host).unlike = ["nics"]), /has another nics/],
  ["disks.overlayNew", (host) => oldDisk(host), /is the last lease's/],
  ["disks.base", (host) => spoilDisk(host, { base: "/seed" }), /is not empty/],
  ["disks.overlayBytes", (host) => spoilDisk(host, { bytes: 5e8 }), /has data/],
  ["credentials.sshKeys, probe.oldSshKey", (host) => void host.keys.set(1, "x"), /ssh key is left/],
];
const seedOf = (host: Host) => [...host.world.domains.values()][0]!;
function spoilBoot(host: Host): void {
  Object.assign(seedOf(host), { boot: ["cdrom", "hd"], unlike: ["boot"] });
}
function spoilDisk(host: Host, change: { base?: string; bytes?: number }): void {
  const { path } = parts().seed.disk;
  host.world.disks.set(path, { ...host.world.disks.get(path)!, ...change });
}
let kept: string | undefined;
/** The file of before the reset is put back in the place of the new one. */
function oldDisk(host: Host): void {
  const { path } = parts().seed.disk;
  host.world.disks.set(path, { ...host.world.disks.get(path)!, identity: kept! });
}

test.each(planted)(
  "H-8.2 H-8.5 a planted defect in %s: no certificate is given",
  async (_field, plant, told) => {
    const host = newHost();
    await makeReady(host);
    kept = host.world.disks.get(parts().seed.disk.path)!.identity;
    const late = (call: string): boolean => (
      call === "bridges.remakePrivate done" && plant(host),
      false
    );
    const agent = await startAgent(host, { fails: late });
    await agent.actor.post({ kind: "order-reset" });
    await settle(host, agent, ["faulty", "quarantined", "ready"]);
    expect(stateOf(host)).not.toBe("ready");
    expect(host.told.map(({ detail }) => detail).join()).toMatch(told);
    await agent.actor.close();
  },
);

test("H-8.2 a certificate says what nobody looked at", async () => {
  const host = newHost();
  await makeReady(host);
  const phase = host.record?.phase;
  const certificate = phase?.state === "ready" ? phase.certificate : undefined;
  expect(certificate).toMatchObject({ notChecked: ["probe.login"], media: "empty", nvram: null });
  expect(certificate?.["disks"]).toMatchObject([{ overlayNew: true, base: null }, {}, {}]);
});

function spoilBridge(host: Host): void {
  host.world.bridges.set("brbm1", { exists: true, ports: ["x"], flows: "default", addresses: 0 });
}
