import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../base/clock.ts";
import type { Clock } from "../base/clock.ts";
import { limits } from "../base/limits.ts";
import { silentLog } from "../base/log.ts";
import { until } from "../base/wait.ts";
import { emptyWorld, simHypervisor } from "../sim/hypervisor.ts";
import type { FromHost } from "../session/session-port.ts";
import { openSqliteStore } from "../store/store.ts";
import { nodePartsOf } from "./node-parts.ts";
import { openNodes } from "./nodes.ts";

const hostId = "11111111-2222-4333-8444-555555555555";
const id = "00000000-0000-4000-8000-000000000001";
const create = {
  kind: "node-create",
  id,
  label: "worker",
  image: `sha256:${"0".repeat(64)}`,
  memoryMiB: 512,
  cpus: 1,
  diskGiB: 8,
  authorizedKey: "ssh-ed25519 AAAA",
} as const;
const image = { digest: create.image, format: "qcow2", sizeBytes: 1, virtualBytes: 1 } as const;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-nodes-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function openBench(world = emptyWorld()) {
  const sent: FromHost[] = [];
  const state = { busy: false, hasImage: true, aheadMs: 0 };
  const hypervisor = simHypervisor(undefined, world);
  const store = await openSqliteStore(join(directory, "te-host.db"));
  const clock: Clock = { ...systemClock, monoMs: () => systemClock.monoMs() + state.aheadMs };
  const ground = {
    hostId,
    macKey: "key",
    folder: join(directory, "nodes"),
    socketsFolder: "/s",
    testBridge: "br-ctlplane",
    mtu: 1500,
  };
  const nodes = await openNodes({
    tools: {
      hypervisor,
      images: { find: async () => (state.hasImage ? image : undefined), pathOf: () => "/image" },
      setRule: async (rule) => hypervisor.portRules.apply([...world.rules, rule]),
      removeRule: async (tap) =>
        hypervisor.portRules.apply(world.rules.filter((rule) => rule.tap !== tap)),
    },
    ground,
    store,
    clock,
    log: silentLog,
    send: (message) => void sent.push(message),
    busy: () => state.busy,
    onCrash: (error) => {
      throw error;
    },
  });
  await nodes.load();
  const heard = (kind: FromHost["kind"]) =>
    until(() => sent.some((message) => message.kind === kind), {
      timeoutMs: 10_000,
      everyMs: 5,
      what: kind,
    });
  const close = async (): Promise<void> => {
    await nodes[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  };
  return { nodes, world, sent, state, ground, heard, close };
}
const running = (world: ReturnType<typeof emptyWorld>): boolean =>
  [...world.domains.values()].some(({ power }) => power === "on");
const soon = (what: string, holds: () => boolean) =>
  until(holds, { timeoutMs: 10_000, everyMs: 5, what });

test("H-17.1 H-17.3 a node is recorded, made on a reserved address, and taken away whole", async () => {
  const { nodes, world, heard, close } = await openBench();
  await nodes.create(create);
  await nodes.create(create); // said twice
  await soon("the node to be on", () => running(world));
  expect(nodes.reports()).toMatchObject([{ id, state: "building", address: "10.99.0.180" }]);
  expect([...world.reservations.values()]).toEqual(["10.99.0.180"]);
  expect(world.rules).toHaveLength(1);
  await nodes.delete(id);
  await heard("node-gone");
  expect(world.domains.size + world.reservations.size + world.rules.length).toBe(0);
  expect(await nodes.plan()).toEqual([]);
  await close();
});

test("H-17.4 while a rack boots on an emulating host a node waits with its own boot", async () => {
  const { nodes, world, state, close } = await openBench();
  state.busy = true;
  await nodes.create(create);
  expect(nodes.reports()).toMatchObject([{ state: "building" }]);
  expect(world.domains.size).toBe(0);
  state.busy = false;
  await soon("the node to be on", () => running(world));
  await close();
});

test("H-17.1 a node whose image is not here fails with the reason, and leaves nothing", async () => {
  const { nodes, sent, state, heard, close } = await openBench();
  state.hasImage = false;
  await nodes.create(create);
  await heard("node-failed");
  expect(sent[0]).toMatchObject({ id, reason: expect.stringContaining("image-missing") });
  await nodes.delete(id);
  await heard("node-gone");
  await close();
});

test("H-1.11 H-17.1 the next agent goes on with a launch; in a new world no node lives on", async () => {
  const first = await openBench();
  await first.nodes.create(create);
  await soon("the node to be on", () => running(first.world));
  await first.close();
  const second = await openBench(first.world);
  await second.nodes.start(false);
  expect(second.nodes.reports()).toMatchObject([{ id, state: "building" }]);
  await second.close();
  const third = await openBench(first.world);
  await third.nodes.start(true);
  await third.heard("node-failed");
  await soon("its parts to be gone", () => third.world.domains.size === 0);
  await third.close();
});

test("H-17.3 what no record knows is removed; what no server claims for an hour, too", async () => {
  const { nodes, world, state, ground, heard, close } = await openBench();
  const stray = { id: id.replace("1", "2"), spec: create, address: "10.99.0.199" };
  const parts = nodePartsOf(ground, { ...stray, phase: { state: "building" } });
  world.domains.set(parts.spec.uuid, { spec: parts.spec, plan: "", power: "off" });
  world.rules = [parts.rule];
  expect((await nodes.plan()).map(({ kind, target }) => `${kind} ${target}`)).toEqual([
    `remove-node-domain ${parts.spec.name}`,
    `remove-node-rule ${parts.rule.tap}`,
  ]);
  for (const action of await nodes.plan()) await nodes.performers[action.kind](action);
  expect(await nodes.plan()).toEqual([]);

  state.hasImage = false;
  await nodes.create(create);
  await heard("node-failed");
  nodes.claim([]);
  expect(await nodes.plan()).toEqual([]);
  state.aheadMs = limits.nodeUnclaimedMs + 1;
  expect(await nodes.plan()).toMatchObject([{ kind: "delete-node", target: id }]);
  nodes.claim([id]);
  expect(await nodes.plan()).toEqual([]);
  await close();
});
