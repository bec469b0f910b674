import fc from "fast-check";
import { expect, test } from "vitest";
import { nodeStates } from "../../model/node.ts";
import { planPool } from "./plan.ts";
import type { NodeFact, PoolFacts, ProviderFact } from "./plan.ts";

const here: ProviderFact = {
  name: "here",
  connected: true,
  there: true,
  labels: ["worker"],
  maxNodes: 2,
  images: new Map([["debian", "r1"]]),
  building: new Set(),
  imageRetryAtMs: new Map(),
};
const idle: PoolFacts = {
  labels: [{ name: "worker", image: "debian", minReady: 1 }],
  providers: [here],
  nodes: [],
  recipes: new Map([["debian", "r1"]]),
  demand: new Map(),
  retryAtMs: new Map(),
  launchLimitMs: 1_000,
  nowMs: 10_000,
};
const node = (state: NodeFact["state"], createdMs = 10_000): NodeFact => ({
  id: `${state}-${createdMs}`,
  label: "worker",
  provider: "here",
  state,
  createdMs,
});

test("N-3 min-ready is kept; a pool that has what it wants plans nothing", () => {
  expect(planPool(idle)).toEqual([{ kind: "launch", provider: "here", label: "worker" }]);
  expect(planPool({ ...idle, nodes: [node("ready")] })).toEqual([]);
  expect(planPool({ ...idle, nodes: [node("building")] })).toEqual([]);
});

test("N-1 builds that wait get nodes, up to the provider's limit", () => {
  const facts = { ...idle, demand: new Map([["worker", 5]]) };
  expect(planPool(facts)).toHaveLength(2);
  expect(planPool({ ...facts, nodes: [node("in-use")] })).toHaveLength(1);
  expect(planPool({ ...facts, nodes: [node("in-use"), node("deleting", 1)] })).toEqual([]);
});

test("N-5, N-6 used and failed nodes are deleted, launches that hang fail", () => {
  const nodes = [node("used"), node("failed"), node("building", 8_000), node("ready")];
  expect(planPool({ ...idle, nodes }).map((action) => action.kind)).toEqual([
    "delete",
    "delete",
    "fail",
  ]);
});

test("N-8 an image is built where it is missing or its recipe has changed, once", () => {
  const changed = { ...idle, recipes: new Map([["debian", "r2"]]), nodes: [node("ready")] };
  const build = [{ kind: "build-image", provider: "here", image: "debian" }];
  expect(planPool(changed)).toEqual(build);
  const busy = { ...here, building: new Set(["debian"]) };
  expect(planPool({ ...changed, providers: [busy] })).toEqual([]);
  const failed = { ...here, imageRetryAtMs: new Map([["debian", 20_000]]) };
  expect(planPool({ ...changed, providers: [failed] })).toEqual([]);
  const none = { ...here, images: new Map<string, string>() };
  expect(planPool({ ...idle, providers: [none] })).toEqual(build);
});

test("N-4 after a failed launch the label waits", () => {
  expect(planPool({ ...idle, retryAtMs: new Map([["worker", 10_001]]) })).toEqual([]);
  expect(planPool({ ...idle, retryAtMs: new Map([["worker", 10_000]]) })).toHaveLength(1);
});

test("a host that is away is asked for nothing", () => {
  expect(planPool({ ...idle, providers: [{ ...here, connected: false }] })).toEqual([]);
});

test("N-3 whatever the nodes, never over a provider's limit", () => {
  const states = fc.array(fc.constantFrom(...nodeStates.filter((s) => s !== "gone")));
  fc.assert(
    fc.property(states, fc.nat(20), (list, waiting) => {
      const nodes = list.map((state, n) => ({ ...node(state), id: `n${n}` }));
      const planned = planPool({ ...idle, nodes, demand: new Map([["worker", waiting]]) });
      const launches = planned.filter((action) => action.kind === "launch").length;
      const alive = nodes.filter((n) => n.state !== "failed").length;
      expect(launches === 0 || launches + alive <= here.maxNodes).toBe(true);
    }),
  );
});

const other = { name: "other", image: "debian", minReady: 0 };
const two: PoolFacts = {
  ...idle,
  labels: [...idle.labels, other],
  providers: [{ ...here, labels: ["worker", "other"] }],
};

test("N-3 an idle node gives its place where another label's builds wait at the limit", () => {
  const full = { ...two, nodes: [node("ready", 1), node("ready", 2)] };
  expect(planPool(full)).toEqual([]);
  const waiting = { ...full, demand: new Map([["other", 2]]) };
  expect(planPool(waiting).map((action) => action.kind)).toEqual(["delete", "delete"]);
  const one = planPool({ ...full, demand: new Map([["other", 1]]) });
  expect(one).toMatchObject([{ kind: "delete", node: "ready-2" }]);
});

test("N-3 what is going already gives its place: no second idle node goes for the same build", () => {
  const going = { ...two, nodes: [node("ready", 1), node("deleting", 2)] };
  expect(planPool({ ...going, demand: new Map([["other", 1]]) })).toEqual([]);
});

test("N-3 a node that builds of its own label wait for stays", () => {
  const demand = new Map([
    ["worker", 2],
    ["other", 1],
  ]);
  expect(planPool({ ...two, nodes: [node("ready", 1), node("ready", 2)], demand })).toEqual([]);
});

test("N-3 the place of an idle node goes to who waits, not back to min-ready of its own label", () => {
  const demand = new Map([["other", 1]]);
  const freed = { ...two, nodes: [node("ready", 1)], demand };
  expect(planPool(freed)).toEqual([{ kind: "launch", provider: "here", label: "other" }]);
});

test("a label that is gone: its launches under way give their places at once", () => {
  const gone = { ...idle, labels: [other], providers: [{ ...here, labels: ["other"] }] };
  const nodes = [node("building"), node("requested", 3), node("ready", 4)];
  const kinds = planPool({ ...gone, nodes }).map((action) => action.kind);
  expect(kinds).toEqual(["delete", "delete", "delete"]);
});

test("nodes of a lost host count as there no more: another host makes new ones", () => {
  const away = { ...here, name: "away", connected: false, there: true };
  const nodes = [{ ...node("ready"), provider: "away" }];
  expect(planPool({ ...idle, providers: [here, away], nodes })).toEqual([]);
  const lost = { ...away, there: false };
  expect(planPool({ ...idle, providers: [here, lost], nodes })).toEqual([
    { kind: "launch", provider: "here", label: "worker" },
  ]);
});
