import { expect, test } from "vitest";
import type { FrozenJob } from "../../model/job.ts";
import type { BuildFacts, ReadyNode } from "./build-ports.ts";
import { newBuild } from "./record.ts";
import type { Build } from "./record.ts";

/** Builds, facts and nodes that tests of the saga begin with. */
export function sampleFacts(id: string, job: Partial<FrozenJob> = {}, attempt = 1): BuildFacts {
  return {
    id,
    buildset: "buildset",
    tenant: "default",
    pipeline: "check",
    project: "p",
    branch: "main",
    changes: [
      {
        project: "p",
        branch: "main",
        change: 4,
        patchset: 1,
        ref: "refs/changes/04/4/1",
        url: "http://x/4",
        subject: "s",
      },
    ],
    zuulRef: "refs/zuul/main/Z1",
    zuulCommit: "c".repeat(40),
    repos: [],
    job: {
      name: "deploy",
      definedAt: "jobs.yaml:1",
      voting: true,
      attempts: 3,
      timeoutSeconds: 100,
      postTimeoutSeconds: 20,
      node: { name: "node", label: "worker" },
      testenv: {
        machines: 2,
        memoryMiB: null,
        cpus: null,
        diskGiB: null,
        labels: null,
        leaseWaitSeconds: 3600,
      },
      requiredProjects: ["p"],
      vars: {},
      runIn: "p",
      preRun: [],
      run: ["true"],
      postRun: [],
      cleanupRun: [],
      ...job,
    },
    attempt,
    baseLogPath: "04/4/1",
    logsPath: `04/4/1/check/deploy/${id.slice(0, 7)}`,
    logsUrl: "http://x/logs",
    buildUrl: "http://x/build",
  };
}

export function sampleNode(id: string): ReadyNode {
  return {
    id,
    label: "worker",
    provider: "here",
    address: "10.99.0.180",
    hostKey: "ssh-ed25519 AAAA",
    image: "sha256:1",
  };
}

export function sampleBuild(facts: BuildFacts): Build {
  return newBuild(facts, {
    place: { precedence: 200, enqueuedMs: 0, index: 0 },
    avoid: { hosts: [], testenvs: [] },
    createdMs: 0,
    pushedMs: 0,
    marks: [],
  });
}

test("a new build waits and has nothing of the world", () => {
  const { state, record } = sampleBuild(sampleFacts("b"));
  expect([state, record.lease, record.node, record.result]).toEqual(["waiting", null, null, null]);
});
