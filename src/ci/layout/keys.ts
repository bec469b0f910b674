/**
 * Zuul's language as a table: which keys each part of an item has here, and which ones Zuul has
 * beyond that: those are the fault `not-supported-yet`, told apart from a mistyped key, which
 * is `unknown-key` and names the nearest known one (surface.md §7).
 */
import { faultAt } from "../../base/yaml-file.ts";
import type { FieldFault } from "../../base/errors.ts";
import { nearest } from "../../base/nearest.ts";
import type { Place } from "../../base/yaml-file.ts";

type Keys = { readonly known: readonly string[]; readonly later: readonly string[] };

/** By the path inside an item, list indices and free names left out. */
export const keyTable = {
  "": {
    known: ["pipeline", "job", "nodeset", "project"],
    later: ["project-template", "queue", "semaphore", "secret", "pragma"],
  },
  pipeline: {
    known: [
      "name",
      "description",
      "manager",
      "precedence",
      "trigger",
      "start",
      "success",
      "failure",
      "merge-conflict",
      "config-error",
      "dequeue-on-new-patchset",
      "ignore-dependencies",
    ],
    later: [
      "post-review",
      "start-message",
      "success-message",
      "failure-message",
      "merge-conflict-message",
      "enqueue-message",
      "dequeue-message",
      "no-jobs-message",
      "footer-message",
      "supercedes",
      "allow-other-connections",
      "require",
      "reject",
      "enqueue",
      "no-jobs",
      "disabled",
      "dequeue",
      "disable-after-consecutive-failures",
      "window",
      "window-floor",
      "window-ceiling",
      "window-increase-type",
      "window-increase-factor",
      "window-decrease-type",
      "window-decrease-factor",
    ],
  },
  "pipeline.trigger": {
    known: ["event", "comment"],
    later: [
      "branch",
      "ref",
      "approval",
      "approval-change",
      "added",
      "removed",
      "username",
      "email",
      "ignore-deletes",
      "require",
      "reject",
      "require-approval",
      "reject-approval",
      "pipeline",
      "time",
    ],
  },
  "pipeline.reporter": { known: [], later: ["submit", "comment", "notify", "checks-api"] },
  job: {
    known: [
      "name",
      "description",
      "parent",
      "nodeset",
      "voting",
      "attempts",
      "timeout",
      "post-timeout",
      "required-projects",
      "vars",
      "run-in",
      "pre-run",
      "run",
      "post-run",
      "cleanup-run",
      "testenv",
    ],
    later: [
      "abstract",
      "final",
      "protected",
      "intermediate",
      "success-message",
      "failure-message",
      "hold-following-changes",
      "failure-output",
      "success-url",
      "failure-url",
      "tags",
      "branches",
      "variant-description",
      "files",
      "irrelevant-files",
      "match-on-config-updates",
      "deduplicate",
      "post-review",
      "secrets",
      "override-branch",
      "override-checkout",
      "roles",
      "extra-vars",
      "host-vars",
      "group-vars",
      "dependencies",
      "semaphore",
      "semaphores",
      "provides",
      "requires",
      "allowed-projects",
      "ansible-version",
      "ansible-split-streams",
      "workspace-scheme",
      "workspace-checkout",
      "attribute-control",
      "image-build-name",
    ],
  },
  "job.testenv": {
    known: ["machines", "memory-mib", "cpus", "disk-gib", "labels", "lease-wait"],
    later: ["environments", "kind"],
  },
  "job.required-projects": { known: ["name"], later: ["override-checkout"] },
  nodeset: { known: ["name", "nodes"], later: ["groups", "alternatives"] },
  node: { known: ["name", "label"], later: [] },
  project: {
    known: ["name", "description"],
    later: ["templates", "default-branch", "merge-mode", "vars", "queue"],
  },
  "project.pipeline": { known: ["jobs"], later: ["queue", "debug", "fail-fast"] },
} as const satisfies Record<string, Keys>;

export type KeyPlace = keyof typeof keyTable;

/** The fault of a key that is not among the known ones of its place. */
export function keyFault(
  at: KeyPlace,
  key: string,
  path: string,
  place: Place,
  alsoKnown: readonly string[] = [],
): FieldFault {
  const keys: Keys = keyTable[at];
  if (keys.later.includes(key)) {
    const allowed = keys.known.length > 0 ? keys.known.join(", ") : "labels and their values";
    return faultAt(
      place,
      "not-supported-yet",
      `${path}: ${key} is Zuul's, but this version does not have it; allowed: ${allowed}`,
      `remove ${key}: what it asks for would not happen`,
    );
  }
  const known = [...keys.known, ...alsoKnown];
  const near = nearest(key, [...known, ...keys.later]);
  return faultAt(
    place,
    "unknown-key",
    `${path}: unknown key ${JSON.stringify(key)}; allowed: ${known.join(", ")}`,
    near === undefined ? undefined : `did you mean ${near}?`,
  );
}
