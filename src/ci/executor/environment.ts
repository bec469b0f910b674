/**
 * The environment handed to a job (ci.md §24): pure, from the build's facts, its node and its
 * rack. Values are text; names of 2014 and Zuul are kept. The structured twin is zuul-variable.ts.
 */
import type { ExecutorJob } from "../builds/build-ports.ts";

export const HOME = "/home/ci";
export const WORKSPACE = "/home/ci/workspace";
export const SOURCES = "/opt/stack/new";
export const TE_DATAFILE = "/home/ci/te/te.json";

/** The branch that every prepared repository stands on (surface.md §10). */
export const WORK_BRANCH = "ci-branch";

export type EnvironmentFacts = {
  /** ZUUL_URL and GIT_BASE: `http://10.99.0.2:7226/git`. */
  readonly doorUrl: string;
};

export function jobEnvironment(job: ExecutorJob, where: EnvironmentFacts): Record<string, string> {
  const { facts, node } = job;
  const tested = facts.changes.at(-1);
  return {
    HOME,
    USER: "ci",
    LANG: "C.UTF-8",
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    // EV-1
    ZUUL_UUID: facts.id,
    ZUUL_REF: facts.zuulRef,
    ZUUL_COMMIT: facts.zuulCommit,
    ZUUL_PROJECT: facts.project,
    ZUUL_PIPELINE: facts.pipeline,
    ZUUL_URL: where.doorUrl,
    BASE_LOG_PATH: facts.baseLogPath,
    LOG_PATH: facts.logsPath,
    // EV-2
    ZUUL_BRANCH: facts.branch,
    ...(tested
      ? { ZUUL_CHANGE: String(tested.change), ZUUL_PATCHSET: String(tested.patchset) }
      : {}),
    ZUUL_CHANGES: facts.changes.map((c) => `${c.project}:${c.branch}:${c.ref}`).join("^"),
    ZUUL_CHANGE_IDS: facts.changes.map((c) => `${c.change},${c.patchset}`).join(" "),
    // EV-4
    WORKSPACE,
    JOB_NAME: facts.job.name,
    BUILD_NUMBER: String(facts.attempt),
    BUILD_URL: facts.buildUrl,
    NODE_NAME: `node-${node.id.slice(0, 8)}`,
    // EV-6, and GIT_BASE of surface.md §4
    GIT_BASE: where.doorUrl,
    TOCI_JOBTYPE: facts.job.name,
    TRIPLEO_ROOT: SOURCES,
    ...(job.lease ? { TE_DATAFILE } : {}),
    ...repositoryVariables(facts.repos.map((repo) => repo.project)),
  };
}

/** Where a project's checkout stands: `/opt/stack/new/<last component>`. */
export function sourceDirectory(project: string): string {
  return `${SOURCES}/${project.split("/").at(-1)}`;
}

/** DT-4: NAME = the directory with all that is not alphanumeric as `_`. */
function repositoryVariables(projects: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    projects.flatMap((project) => {
      const directory = sourceDirectory(project);
      const name = (directory.split("/").at(-1) ?? "").replaceAll(/[^A-Za-z0-9]/g, "_");
      return [
        [`DIB_REPOLOCATION_${name}`, directory],
        [`DIB_REPOREF_${name}`, WORK_BRANCH],
      ];
    }),
  );
}
