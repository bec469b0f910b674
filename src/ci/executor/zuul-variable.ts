/**
 * The structured `zuul` variable of a job (ci.md EV-7, Zuul's own spelling) and the manifest of
 * what each repository was set to and why (V-3): pure. The page that people see carries the
 * same facts.
 */
import type { PreparedRepo } from "../../model/job.ts";
import type { ExecutorJob } from "../builds/build-ports.ts";
import { sourceDirectory, WORK_BRANCH } from "./environment.ts";

export function zuulVariable(job: ExecutorJob): object {
  const { facts, node, lease } = job;
  const tested = facts.changes.at(-1);
  const items = facts.changes.map((change) => ({
    project: projectOf(change.project),
    branch: change.branch,
    change: String(change.change),
    patchset: String(change.patchset),
    ref: change.ref,
    change_url: change.url,
    subject: change.subject,
  }));
  return {
    build: facts.id,
    buildset: facts.buildset,
    ref: facts.zuulRef,
    branch: facts.branch,
    change: tested ? String(tested.change) : null,
    patchset: tested ? String(tested.patchset) : null,
    change_url: tested?.url ?? null,
    message: tested?.subject ?? null,
    items,
    buildset_refs: items.map((item) => ({ ...item, src_dir: item.project.src_dir })),
    project: projectOf(facts.project),
    projects: Object.fromEntries(
      facts.repos.map((repo) => [
        repo.project,
        {
          ...projectOf(repo.project),
          checkout: repo.branch,
          checkout_description: describeCheckout(repo),
          commit: repo.commit,
          required: facts.job.requiredProjects.includes(repo.project),
        },
      ]),
    ),
    pipeline: facts.pipeline,
    job: facts.job.name,
    tenant: facts.tenant,
    voting: facts.job.voting,
    attempts: facts.attempt,
    max_attempts: facts.job.attempts,
    timeout: facts.job.timeoutSeconds,
    post_timeout: facts.job.postTimeoutSeconds,
    artifacts: [],
    child_jobs: [],
    executor: { log_url: facts.logsUrl, log_root: facts.logsPath },
    resources: {
      node: { id: node.id, label: node.label, provider: node.provider, image: node.image },
      testenv: lease ? { lease: lease.id, te: lease.te, epoch: lease.epoch } : null,
    },
    post_review: false,
    event_id: facts.buildset,
    vars: facts.job.vars,
  };
}

export function buildManifest(job: ExecutorJob): object {
  return {
    build: job.facts.id,
    zuulRef: job.facts.zuulRef,
    repositories: job.facts.repos.map((repo) => ({
      project: repo.project,
      directory: sourceDirectory(repo.project),
      branch: WORK_BRANCH,
      checkout: repo.branch,
      ref: repo.zuulRef,
      commit: repo.commit,
      base: repo.baseCommit,
      why: describeCheckout(repo),
    })),
  };
}

/** In words what a repository was set to, and why (V-1 – V-3). */
export function describeCheckout(repo: PreparedRepo & { readonly why?: string }): string {
  if (repo.why !== undefined) return repo.why;
  if (repo.zuulRef !== null) return `the change, merged on the tip of ${repo.branch}`;
  return repo.branch === repo.defaultBranch
    ? `tip of the default branch ${repo.branch}: no change of this project is tested`
    : `tip of ${repo.branch}: no change of this project is tested`;
}

function projectOf(project: string) {
  const parts = project.split("/");
  return {
    name: project,
    short_name: parts.at(-1) ?? project,
    canonical_name: project,
    src_dir: sourceDirectory(project),
  };
}
