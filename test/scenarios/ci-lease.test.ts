/**
 * Builds that lease their racks from the real broker, over its API, from a host in memory: node
 * and rack in one step, the way back after each end, and what the broker's words mean for a
 * build. Review system, nodes and executor are held ports.
 */
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { openBuildLeases } from "../../src/main/build-leases.ts";
import { soon } from "./ci-ports.ts";
import { checkPipeline, layoutOf, openSmallReview, openWorld, smallMerger } from "./ci-world.ts";
import type { World } from "./ci-world.ts";
import { makeLeaseDirectory, openLeaseServer } from "./lease-world.ts";
import type { LeaseServer } from "./lease-world.ts";
import { openScriptedHost } from "./scripted-host.ts";
import type { ScriptedHost } from "./scripted-host.ts";

const layout = layoutOf(`${checkPipeline}
- job: { name: deploy, nodeset: one, run: ./run.sh, testenv: { machines: 2 } }
- project: { name: app, check: { jobs: [ deploy ] } }
`);

let directory: Awaited<ReturnType<typeof makeLeaseDirectory>>;
let server: LeaseServer;
let host: ScriptedHost;
let world: World;
let review: ReturnType<typeof openSmallReview>;

beforeEach(async () => {
  directory = await makeLeaseDirectory();
  server = await openLeaseServer(directory.path);
  host = openScriptedHost({ url: server.hostUrl });
  host.start();
  await soon("the rack is ready", async () =>
    (await server.broker.fleet.testenvs()).some((te) => te.state === "ready"),
  );
  review = openSmallReview();
  world = openWorld({
    store: server.store,
    review: review.port,
    merger: smallMerger,
    rackPort: openBuildLeases(() => server.broker.leases, silentLog),
  });
});
afterEach(async () => {
  await world.stop();
  await host.die();
  await server.close();
  await directory[Symbol.asyncDispose]();
  if (world.crashes.length > 0) throw new Error(`crashed: ${world.crashes.join("; ")}`);
});

const leases = async () => (await server.broker.leases.list({ limit: 50 })).items;
const success = () => soon("success", () => review.stages().includes("success"));

test("lease.md §4 the grant comes with the paired node's address; the lease ends released", async () => {
  review.push(1);
  await world.start(layout);
  await success();
  const prepare = host.wanted().find(({ lease }) => lease !== null);
  expect(JSON.stringify(prepare)).toContain("10.99.0.181");
  expect(await leases()).toMatchObject([
    { state: "ended", reason: "released", group: "app", testenvs: [{ id: "here:1", epoch: "1" }] },
  ]);
  expect(world.nodes.made()).toBeLessThanOrEqual(2);
});

test("two changes, one rack: the second has it when the first gave it back", async () => {
  const go = world.executor.hold("deploy", "run");
  review.push(1);
  review.push(2);
  await world.start(layout);
  await soon("the first deploys", () => world.executor.isAt("deploy", "run"));
  await soon("two leases", async () => (await leases()).length === 2);
  go();
  await soon("both", () => review.stages().filter((stage) => stage === "success").length === 2);
  const epochs = (await leases()).map((lease) => lease.testenvs[0]?.epoch);
  expect(new Set(epochs)).toEqual(new Set(["1", "2"]));
});

test("N-1 without a node the lease waits, passed over, and the rack stays free", async () => {
  world.nodes.pause();
  review.push(1);
  await world.start(layout);
  await soon("the lease waits", async () => (await leases())[0]?.state === "waiting");
  expect((await server.broker.fleet.testenvs())[0]?.state).toBe("ready");
  world.nodes.go();
  await success();
  expect(await leases()).toHaveLength(1);
});

test("lease.md §4 the node goes while the rack is made ready: both are had anew, together", async () => {
  host.held.add("prepare");
  review.push(1);
  await world.start(layout);
  await soon("the rack is made ready", async () => (await leases())[0]?.state === "preparing");
  world.nodes.lose("node-1");
  await soon("asked anew", async () => (await leases()).length === 2);
  host.resume("prepare");
  await success();
  expect(world.executor.calls).toContain("1,1 deploy run 1");
  const states = (await leases()).map((lease) => lease.state);
  expect(states).toEqual(["ended", "ended"]);
});

test("L12 a rack that no host has: the build says so while it waits for a host that may come", async () => {
  review.push(1);
  const more = layoutOf(`${checkPipeline}
- job: { name: deploy, nodeset: one, run: ./run.sh, testenv: { machines: 9 } }
- project: { name: app, check: { jobs: [ deploy ] } }
`);
  const scheduler = await world.start(more);
  const why = async (): Promise<string | null | undefined> =>
    (await scheduler?.views.pipelines())?.[0]?.items[0]?.jobs[0]?.why;
  await soon("the reason", async () => typeof (await why()) === "string");
  expect(await why()).toBe("asked for count 9, no test environment has more than 2");
});

test("F-1 revoked by an operator: ABORTED, no vote, the rack is reset", async () => {
  world.executor.hold("deploy", "run");
  review.push(1);
  await world.start(layout);
  await soon("it deploys", () => world.executor.isAt("deploy", "run"));
  const [lease] = await leases();
  await server.broker.leases.revoke(lease!.id, { name: "boss", role: "operator", groups: [] });
  await soon("the report", () => review.stages().includes("failure"));
  expect(review.reports.at(-1)).toMatchObject({ votes: [] });
  expect(review.reports.at(-1)?.message).toContain("ABORTED");
});

test("F-1 the host ends the lease because the rack broke: TE_LOST, retried, then success", async () => {
  const go = world.executor.hold("deploy", "run");
  review.push(1);
  await world.start(layout);
  await soon("it deploys", () => world.executor.isAt("deploy", "run"));
  host.endAlone(1, "te-lost");
  await soon("it is retried", () => world.executor.calls.includes("1,1 deploy prepare 2"));
  go();
  await success();
  expect(review.reports.at(-1)?.message).toMatch(/1\. (TE_LOST|RETRY)/);
  expect(review.reports.at(-1)?.votes).toEqual([{ label: "Verified", value: 1 }]);
});

test("X-4 the server is restarted while a job runs: its lease is given back, then taken anew", async () => {
  const go = world.executor.hold("deploy", "run");
  review.push(1);
  await world.start(layout);
  await soon("it deploys", () => world.executor.isAt("deploy", "run"));
  await world.stop();
  go();
  await world.start(layout);
  await success();
  expect((await leases()).map((lease) => [lease.state, lease.reason])).toEqual([
    ["ended", "released"],
    ["ended", "released"],
  ]);
});

test("L11 superseded while it waits: the request is gone at the call", async () => {
  world.nodes.pause();
  review.push(1);
  await world.start(layout);
  await soon("the lease waits", async () => (await leases())[0]?.state === "waiting");
  review.push(1);
  await soon("one has ended, one waits", async () => {
    const states = (await leases()).map((lease) => lease.state).toSorted();
    return states.join() === "ended,waiting";
  });
  world.nodes.go();
  await success();
  expect(review.stages()).toEqual(["start", "start", "success"]);
});
