/**
 * Many builds at once that wait for few racks, leased from the real ledger and broker: none fails
 * of it, and they come in the queue's order.
 */
import { expect, onTestFinished, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { until } from "../../src/base/wait.ts";
import { openBuildLeases } from "../../src/main/build-leases.ts";
import { soon } from "./ci-ports.ts";
import { checkPipeline, layoutOf, openSmallReview, openWorld, smallMerger } from "./ci-world.ts";
import { makeLeaseDirectory, openLeaseServer } from "./lease-world.ts";
import { openScriptedHost } from "./scripted-host.ts";

const BUILDS = 300;

const layout = layoutOf(`${checkPipeline}
- job: { name: deploy, nodeset: one, run: ./run.sh, testenv: { machines: 2 } }
- project: { name: app, check: { jobs: [ deploy ] } }
`);

test("P4 N-1 300 builds wait for one rack: each has it once, in the queue's order", async () => {
  const directory = await makeLeaseDirectory();
  const server = await openLeaseServer(directory.path);
  const host = openScriptedHost({ url: server.hostUrl });
  host.start();
  await soon("the rack is ready", async () =>
    (await server.broker.fleet.testenvs()).some((te) => te.state === "ready"),
  );
  const review = openSmallReview();
  const rackPort = openBuildLeases(() => server.broker.leases, silentLog);
  const { store } = server;
  const world = openWorld({ store, review: review.port, merger: smallMerger, rackPort });
  onTestFinished(async () => {
    await world.stop();
    await host.die();
    await server.close();
    await directory[Symbol.asyncDispose]();
  });
  const go = world.executor.hold("deploy", "run");
  for (let number = 1; number <= BUILDS; number++) review.push(number);
  await world.start(layout);
  await soon("the first deploys", () => world.executor.isAt("deploy", "run"));
  await soon("all are in the queue", () => review.stages().length >= BUILDS);
  go();
  await until(() => review.stages().filter((stage) => stage === "success").length === BUILDS, {
    timeoutMs: 240_000,
    everyMs: 50,
    what: `${BUILDS} successes`,
  });
  const ran = world.executor.calls.filter((call) => call.includes("deploy run"));
  expect(ran).toEqual(Array.from({ length: BUILDS }, (_, n) => `${n + 1},1 deploy run 1`));
  expect(review.stages().filter((stage) => stage === "failure")).toEqual([]);
  expect(world.crashes).toEqual([]);
}, 300_000);
