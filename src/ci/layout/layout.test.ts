import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { isRackyardError } from "../../base/errors.ts";
import { isLabelExpression } from "./items.ts";
import { defaultLayout, writeDefaultLayout } from "./default-layout.ts";
import { freezeJobs } from "./freeze.ts";
import { acceptLayout, builtinVotes, checkLayout } from "./layout.ts";
import { readLayoutFiles } from "./reader.ts";

const around = {
  labels: ["worker", "big"],
  connections: ["local"],
  votes: builtinVotes,
  longestLeaseSeconds: 14_400,
};

const pipeline = `
- pipeline:
    name: check
    manager: independent
    trigger: { local: [ { event: patchset-created }, { event: comment-added, comment: '(?i)^\\s*recheck' } ] }
    success: { local: { Verified: 1 } }
    failure: { local: { Verified: -1 } }
`;

function check(text: string) {
  return checkLayout([{ file: "l.yaml", text }], around);
}

/** `line:column code detail` of each fault. */
function faultsOf(text: string): string[] {
  return check(text).faults.map((fault) => {
    const where = fault.pointer.replace("l.yaml:", "");
    const remedy = fault.remedy === undefined ? "" : ` (${fault.remedy})`;
    return `${where} ${fault.code} ${fault.detail}${remedy}`;
  });
}

const deploy = `
- nodeset: { name: one, nodes: [ { name: node, label: worker } ] }
- job:
    name: base
    nodeset: one
    attempts: 2
    timeout: 100
    vars: { a: { x: 1, y: 2 }, list: [1] }
    required-projects: [ tools ]
    pre-run: base-pre
    post-run: base-post
    cleanup-run: base-clean
    run: base-run
- job:
    name: deploy
    parent: base
    vars: { a: { y: 3 }, list: [2] }
    required-projects: [ { name: seed }, tools ]
    pre-run: [ pre-1, pre-2 ]
    post-run: post
    cleanup-run: clean
    run: ./run.sh
    run-in: seed
    testenv: { machines: 2, memory-mib: 256, labels: "emulated || kvm" }
- project: { name: org/app, check: { jobs: [ deploy: { voting: false, vars: { a: { z: 4 } } }, noop ] } }
- project: { name: tools }
- project: { name: seed }
`;

test("J-5 a job is frozen with its parents: phases nest, vars merge deep, projects add up", () => {
  const { layout, faults } = check(pipeline + deploy);
  expect(faults).toEqual([]);
  const frozen = freezeJobs(layout, "check", "org/app");
  expect(frozen.faults).toEqual([]);
  expect(frozen.jobs).toMatchObject([
    {
      name: "deploy",
      definedAt: "l.yaml:22",
      voting: false,
      attempts: 2,
      timeoutSeconds: 100,
      postTimeoutSeconds: 300,
      node: { name: "node", label: "worker" },
      requiredProjects: ["org/app", "tools", "seed"],
      vars: { a: { x: 1, y: 3, z: 4 }, list: [2] },
      runIn: "seed",
      preRun: ["base-pre", "pre-1", "pre-2"],
      run: ["./run.sh"],
      postRun: ["post", "base-post"],
      cleanupRun: ["clean", "base-clean"],
      testenv: { machines: 2, memoryMiB: 256, cpus: null, labels: "emulated || kvm" },
    },
    { name: "noop", node: null, run: [] },
  ]);
  expect(freezeJobs(layout, "check", "org/app")).toEqual(frozen);
  expect(freezeJobs(layout, "check", "tools").jobs).toEqual([]);
});

test("J-5 what cannot be frozen names the job's file and line, and where it is used", () => {
  const text = `${pipeline}
- job: { name: base, attempts: 1 }
- job: { name: child, parent: base, run: make }
- job: { name: twins, nodeset: { nodes: [ { name: n, label: big } ] }, run: make,
    required-projects: [ { name: other/app } ] }
- project: { name: other/app }
- project: { name: app, check: { jobs: [ child, twins ] } }`;
  const lineOf = (part: string): number => {
    return text.split("\n").findIndex((line) => line.includes(part)) + 1;
  };
  const { layout, faults } = check(text);
  const frozen = freezeJobs(layout, "check", "app");
  expect(frozen.jobs).toEqual([]);
  expect(frozen.faults).toMatchObject([
    { code: "no-nodeset", detail: expect.stringContaining(`(l.yaml:${lineOf("name: child")})`) },
    { code: "same-checkout", detail: expect.stringContaining(`(l.yaml:${lineOf("name: twins")})`) },
  ]);
  for (const { pointer } of frozen.faults) {
    expect(pointer).toMatch(new RegExp(`^l[.]yaml:${lineOf("jobs: [ child")}:\\d+$`));
  }
  // the same faults refuse the layout as a whole
  expect(faults).toEqual(expect.arrayContaining(frozen.faults));
});

test("surface §7 run-in is the item's project for a job of the layout folder", () => {
  const { layout } = check(`${pipeline}
- job: { name: unit, nodeset: { nodes: [ { name: n, label: big } ] }, run: make }
- project: { name: app, check: { jobs: [ unit ] } }`);
  const [job] = freezeJobs(layout, "check", "app").jobs;
  expect(job).toMatchObject({ runIn: "app", requiredProjects: ["app"], node: { label: "big" } });
});

test("a pipeline's reporters fall back to failure, regexes are Python's (R-1)", () => {
  const { layout } = check(pipeline);
  const config = layout.pipelines.get("check")!;
  expect(config).toMatchObject({ precedence: "normal", dequeueOnNewPatchset: true });
  expect(config.reporters["merge-conflict"]).toEqual([
    { connection: "local", labels: { Verified: -1 } },
  ]);
  expect(config.reporters.start).toEqual([]);
  expect(config.triggers[1]!.comments[0]!.test("  ReCheck please")).toBe(true);
});

test("surface §7 every fault at once, with file, line, column, path, found and allowed", () => {
  expect(
    faultsOf(`
- pipeline:
    name: check
    manager: dependent
    window: 20
    trigger: { gerrit: [ { event: patchset-creatd }, { event: ref-updated } ] }
    success: { local: { Verified: 3, submit: true, Verifed: 1 } }
- job:
    name: a
    parent: b
    nodset: one
    timeout: soon
    abstract: true
- job: { name: b, parent: nobody, nodeset: { nodes: [ { name: n, label: wrker } ] } }
- jobb: { name: c }
- project: { name: x, templates: [ t ], chek: { jobs: [ bb, { a: { voting: perhaps } } ] } }
- secret: {}
`),
  ).toMatchInlineSnapshot(`
    [
      "4:14 not-supported-yet pipeline.manager: is not supported yet; allowed: independent, found "dependent"",
      "5:5 not-supported-yet pipeline.window: window is Zuul's, but this version does not have it; allowed: name, description, manager, precedence, trigger, start, success, failure, merge-conflict, config-error, dequeue-on-new-patchset, ignore-dependencies (remove window: what it asks for would not happen)",
      "6:35 unknown-value pipeline.trigger.gerrit[0].event: is unknown; allowed: patchset-created, comment-added, change-restored, found "patchset-creatd" (did you mean patchset-created?)",
      "6:63 not-supported-yet pipeline.trigger.gerrit[1].event: is not supported yet; allowed: patchset-created, comment-added, change-restored, found "ref-updated"",
      "7:35 bad-value pipeline.success.local.Verified: must be a vote, a whole number from -2 to 2, found 3",
      "7:46 not-supported-yet pipeline.success.local.submit: is not supported yet; allowed: labels and their values, found true",
      "11:5 unknown-key job.nodset: unknown key "nodset"; allowed: name, description, parent, nodeset, voting, attempts, timeout, post-timeout, required-projects, vars, run-in, pre-run, run, post-run, cleanup-run, testenv (did you mean nodeset?)",
      "12:14 invalid-type job.timeout: must be a number, found "soon"",
      "13:5 not-supported-yet job.abstract: abstract is Zuul's, but this version does not have it; allowed: name, description, parent, nodeset, voting, attempts, timeout, post-timeout, required-projects, vars, run-in, pre-run, run, post-run, cleanup-run, testenv (remove abstract: what it asks for would not happen)",
      "14:27 unknown-job job.parent: there is no job "nobody"; there are: b, a",
      "14:73 unknown-node-label job.nodeset.label: there is no node label "wrker"; there are: worker, big (did you mean worker?)",
      "15:3 unknown-key item 4: unknown key "jobb"; allowed: pipeline, job, nodeset, project (did you mean job?)",
      "16:23 not-supported-yet project.templates: templates is Zuul's, but this version does not have it; allowed: name, description (remove templates: what it asks for would not happen)",
      "16:41 unknown-pipeline project.chek: there is no pipeline "chek"; there are: check (did you mean check?)",
      "16:57 unknown-job project.chek.jobs[0]: there is no job "bb"; there are: b, a, noop (did you mean b?)",
      "16:76 invalid-type project.chek.jobs[1].a.voting: must be true or false, found "perhaps"",
      "17:3 not-supported-yet item 6: secret is Zuul's, but this version does not have it; allowed: pipeline, job, nodeset, project (remove secret: what it asks for would not happen)",
    ]
  `);
});

test("surface §7 names that are taken, missing or circular", () => {
  expect(
    faultsOf(`${pipeline}${pipeline}
- job: { name: a, parent: b, run: x }
- job: { name: b, parent: c, run: x }
- job: { name: c, parent: a, run: x, required-projects: [ nowhere ], run-in: elsewhere }
- job: { name: c, run: x }
- job: { name: noop, run: x }
- project: { name: p, gate: { jobs: [ a, a, zz ] } }
- project: { name: p }
`),
  ).toMatchInlineSnapshot(`
    [
      "10:11 duplicate pipeline.name: check stands already at l.yaml:3",
      "18:27 parent-cycle job.parent: goes round in a circle: c → a → b → c",
      "18:59 unknown-project job.required-projects: there is no project "nowhere"; there are: p",
      "18:78 unknown-project job.run-in: there is no project "elsewhere"; there are: p",
      "19:16 duplicate job.name: c stands already at l.yaml:18; variants of a job are not supported yet",
      "20:16 duplicate job.name: noop is built in: it succeeds at once, without a node",
      "21:23 unknown-pipeline project.gate: there is no pipeline "gate"; there are: check",
      "21:42 duplicate project.gate.jobs[1]: a is listed twice",
      "21:45 unknown-job project.gate.jobs[2]: there is no job "zz"; there are: a, b, c, noop",
      "22:20 duplicate project.name: p stands already at l.yaml:21",
    ]
  `);
});

test("surface §10 what is wrong only where a project meets a job is told when the layout is read", () => {
  expect(
    faultsOf(`${pipeline}
- job: { name: base, timeout: 5 }
- job: { name: two, nodeset: { nodes: [ { name: n, label: worker } ] }, run: x, required-projects: [ b/app ] }
- job: { name: away, nodeset: { nodes: [ { name: n, label: worker } ] }, run: x, run-in: b/app }
- project: { name: a/app, check: { jobs: [ base, two, away ] } }
- project: { name: b/app, check: { jobs: [ two ] } }
`),
  ).toMatchInlineSnapshot(`
    [
      "12:44 no-run job base (l.yaml:9) has no run, nor has a parent: it is a base for others only",
      "12:44 no-nodeset job base (l.yaml:9) has no nodeset, nor has a parent",
      "12:50 same-checkout job two (l.yaml:10) needs a/app and b/app for a/app: both would stand in app",
      "12:55 unknown-project job away (l.yaml:11): run-in b/app is not among its projects: a/app (add it to required-projects)",
    ]
  `);
});

test("a file that is no YAML, or no list, is a fault with its place", () => {
  expect(faultsOf("- job: { name: [\n")[0]).toMatch(/^\d+:\d+ yaml-syntax /);
  expect(faultsOf("job: x")[0]).toMatch(/^1:1 invalid-type the file: must be a list of items/);
  expect(faultsOf("# nothing\n")).toEqual([]);
});

test("surface §3 the first start writes pipeline check without jobs, once, and it is right", async () => {
  const directory = await mkdtemp(join(tmpdir(), "rackyard-layout-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  expect(await writeDefaultLayout(directory)).toBe(true);
  expect(await readdir(directory)).toEqual(["check.yaml"]);
  const layout = acceptLayout(await readLayoutFiles(directory), around);
  expect([...layout.pipelines.keys()]).toEqual(["check"]);
  expect(layout.jobs.size + layout.projects.size).toBe(0);
  await writeFile(join(directory, "check.yaml"), "# mine\n");
  expect(await writeDefaultLayout(directory)).toBe(false);
  expect(await readFile(join(directory, "check.yaml"), "utf8")).toBe("# mine\n");
});

test("the lines that the default layout teaches with are a right layout", () => {
  const taught = defaultLayout.replaceAll(/^# (- |  )/gm, "$1").replaceAll(/^#$/gm, "");
  expect(taught).toContain("\n- job:");
  expect(faultsOf(taught)).toEqual([]);
});

test("a wrong layout is refused with bad-layout, exit code 78, all faults in it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "rackyard-layout-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  await writeFile(join(directory, "a.yaml"), "- job: { name: a, runn: x }\n");
  await writeFile(join(directory, "b.yml"), "- job: { name: b, files: x }\n");
  await writeFile(join(directory, "c.txt"), "not read");
  const load = async () => acceptLayout(await readLayoutFiles(directory), around);
  const error: unknown = await load().catch((e: unknown) => e);
  expect(isRackyardError(error, "bad-layout") && error.exitCode).toBe(78);
  expect(isRackyardError(error) && error.faults.map((fault) => fault.pointer)).toEqual([
    `${directory}/a.yaml:1:19`,
    `${directory}/b.yml:1:19`,
  ]);
  await rm(join(directory, "a.yaml"));
  await expect(load()).rejects.toMatchObject({ code: "not-supported-yet" });
});

test.each([
  ["kvm", true],
  ["!slow && (ipv6 || kvm)", true],
  ["a.b:c_d", true],
  ["!!a", true],
  ["", false],
  ["a b", false],
  ["(a", false],
  ["a &&", false],
  ["a & b", false],
  ["Big", false],
])("surface §6 label expression %j", (text, right) => {
  expect(isLabelExpression(text)).toBe(right);
});

test("T-1 issue 6, §2: a job whose limits outlast the longest lease is refused, with the sum", () => {
  const text = (run: string): string => `
- pipeline: { name: check, manager: independent }
- job: { name: base, nodeset: { nodes: [ { name: n, label: worker } ] }, run: "true", ${run} }
- project: { name: p, check: { jobs: [ base ] } }
`;
  const faults = (run: string, longestLeaseSeconds = 14_400) =>
    checkLayout([{ file: "f", text: text(run) }], { ...around, longestLeaseSeconds }).faults;
  expect(faults("testenv: { machines: 1 }, timeout: 7200")).toEqual([]);
  expect(faults("timeout: 14400")).toEqual([]); // no rack, no lease
  expect(faults("testenv: { machines: 1 }, timeout: 14400")).toEqual([
    expect.objectContaining({ pointer: "f:4:40", code: "too-long" }),
  ]);
  const posts = 'timeout: 7200, post-timeout: 3000, post-run: [ "a", "b", "c" ]';
  expect(faults(`testenv: { machines: 1 }, ${posts}`)[0]?.detail).toMatch(
    /^job base \(f:3\) may need its rack for 1\d{4} s \(timeout 7200 s, 3 × post-timeout 3000 s, /,
  );
  expect(faults(`testenv: { machines: 1 }, ${posts}`, 86_400)).toEqual([]);
});
