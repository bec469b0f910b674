import { expect, test } from "vitest";
import type { ExecutorJob } from "../builds/build-ports.ts";
import { jobEnvironment } from "./environment.ts";
import { machineCommand, parseMachines } from "./machines.ts";
import { isDiskFull, parseStatusLine } from "./scripts.ts";
import { buildManifest, zuulVariable } from "./zuul-variable.ts";

const commit = "1234567890123456789012345678901234567890";
const repo = {
  branch: "master",
  commit,
  zuulRef: null,
  baseCommit: commit,
  defaultBranch: "master",
  branches: { master: commit },
};
const job: ExecutorJob = {
  resumed: false,
  node: {
    id: "0f0f0f0f-1111-4222-8333-444444444444",
    label: "worker",
    provider: "here",
    address: "10.99.0.180",
    hostKey: "ssh-ed25519 AAAA",
    image: "sha",
  },
  lease: null,
  facts: {
    id: "aaaaaaaa-1111-4222-8333-444444444444",
    buildset: "bbbbbbbb-1111-4222-8333-444444444444",
    tenant: "default",
    pipeline: "check",
    project: "group/my-tool",
    branch: "master",
    changes: [
      {
        project: "group/my-tool",
        branch: "master",
        change: 3,
        patchset: 1,
        ref: "refs/changes/03/3/1",
        url: "http://x/changes/3",
        subject: "One",
      },
      {
        project: "group/my-tool",
        branch: "master",
        change: 4,
        patchset: 2,
        ref: "refs/changes/04/4/2",
        url: "http://x/changes/4",
        subject: "Two",
      },
    ],
    zuulRef: "refs/zuul/master/Zb",
    zuulCommit: commit,
    repos: [
      { ...repo, project: "group/my-tool", zuulRef: "refs/zuul/master/Zb" },
      { ...repo, project: "other.lib" },
    ],
    job: {
      name: "deploy",
      definedAt: "a.yaml:1",
      voting: true,
      attempts: 3,
      timeoutSeconds: 60,
      postTimeoutSeconds: 30,
      node: { name: "node", label: "worker" },
      testenv: null,
      requiredProjects: ["group/my-tool", "other.lib"],
      vars: { colour: "red" },
      runIn: "group/my-tool",
      preRun: [],
      run: ["./run.sh"],
      postRun: [],
      cleanupRun: [],
    },
    attempt: 2,
    baseLogPath: "04/4/2",
    logsPath: "04/4/2/check/deploy/aaaaaaa",
    logsUrl: "http://x/logs/…",
    buildUrl: "http://x/builds/…",
  },
};
const door = { doorUrl: "http://10.99.0.2:7226/git" };

test("EV-1, EV-2, EV-4 the environment names build, change and places", () => {
  expect(jobEnvironment(job, door)).toMatchObject({
    ZUUL_UUID: job.facts.id,
    ZUUL_REF: "refs/zuul/master/Zb",
    ZUUL_COMMIT: commit,
    ZUUL_PROJECT: "group/my-tool",
    ZUUL_PIPELINE: "check",
    ZUUL_URL: door.doorUrl,
    BASE_LOG_PATH: "04/4/2",
    LOG_PATH: "04/4/2/check/deploy/aaaaaaa",
    ZUUL_BRANCH: "master",
    ZUUL_CHANGE: "4",
    ZUUL_PATCHSET: "2",
    ZUUL_CHANGES:
      "group/my-tool:master:refs/changes/03/3/1^group/my-tool:master:refs/changes/04/4/2",
    ZUUL_CHANGE_IDS: "3,1 4,2",
    WORKSPACE: "/home/ci/workspace",
    JOB_NAME: "deploy",
    BUILD_NUMBER: "2",
    BUILD_URL: job.facts.buildUrl,
    NODE_NAME: "node-0f0f0f0f",
  });
});

test("EV-6 toci's names: repositories by directory, and the rack's data only with a rack", () => {
  const environment = jobEnvironment(job, door);
  expect(environment).toMatchObject({
    TOCI_JOBTYPE: "deploy",
    TRIPLEO_ROOT: "/opt/stack/new",
    DIB_REPOLOCATION_my_tool: "/opt/stack/new/my-tool",
    DIB_REPOREF_my_tool: "ci-branch",
    DIB_REPOLOCATION_other_lib: "/opt/stack/new/other.lib",
  });
  expect(environment).not.toHaveProperty("TE_DATAFILE");
  const lease = { id: "l", te: "here:1", epoch: "7", host: "here", data: {} as never };
  expect(jobEnvironment({ ...job, lease }, door)["TE_DATAFILE"]).toBe("/home/ci/te/te.json");
});

test("EV-7, V-3 the zuul variable and the manifest say what each repository was set to, and why", () => {
  expect(zuulVariable(job)).toMatchObject({
    build: job.facts.id,
    change: "4",
    patchset: "2",
    project: { name: "group/my-tool", short_name: "my-tool", src_dir: "/opt/stack/new/my-tool" },
    projects: {
      "other.lib": {
        checkout: "master",
        commit,
        required: true,
        checkout_description: expect.stringContaining("default branch") as string,
      },
    },
    attempts: 2,
    max_attempts: 3,
    timeout: 60,
  });
  expect(buildManifest(job)).toMatchObject({
    repositories: [
      { project: "group/my-tool", branch: "ci-branch", ref: "refs/zuul/master/Zb" },
      { project: "other.lib", ref: null },
    ],
  });
});

test("X-3a only the nonce tells a status; text before it on its line is output", () => {
  expect(parseStatusLine("@n 0", "@n")).toEqual({ before: "", status: 0 });
  expect(parseStatusLine("no newline@n 255", "@n")).toEqual({
    before: "no newline",
    status: 255,
  });
  for (const line of ["@n", "@n x", "@n 1 2", "@m 0", "exit 0"]) {
    expect(parseStatusLine(line, "@n")).toBeUndefined();
  }
});

test.each([
  ["0 900000", true],
  ["50 900000\n40 16000", true],
  ["50 900000\n40 17000", false],
  ["", false],
])("X-5 free space %j is full: %s", (answer, full) => expect(isDiskFull(answer)).toBe(full));

test("surface.md §10 machines.json: wrong entries are named and do not spoil the others", () => {
  const { machines, faults } = parseMachines(
    JSON.stringify([
      {
        name: "te1-n0",
        address: "10.50.0.21",
        user: "root",
        identity: "/home/ci/.ssh/rack",
        via: "root@10.99.0.11",
        more: 1,
      },
      { name: "../x", address: "10.50.0.21" },
      { name: "te1-n1", address: "$(reboot)" },
      { name: "te1-n2", address: "10.50.0.22", identity: "/home/ci/x y" },
      { name: "te1-n3", address: "10.50.0.23", via: "root@x -o ProxyCommand=y" },
    ]),
  );
  expect(machines.map((machine) => machine.name)).toEqual(["te1-n0"]);
  expect(faults).toHaveLength(4);
  expect(machineCommand(machines[0]!)).toContain(
    "-W %h:%p root@10.99.0.11' 'root@10.50.0.21' sh -s",
  );
  expect(parseMachines("{").faults[0]).toContain("no JSON");
  expect(parseMachines("{}").faults[0]).toContain("no list");
});
