/**
 * Labels of the built-in review system, their ranges, and who may do what to a change
 * (surface.md §6). Pure: refusals are thrown as errors of the world.
 */
import { fail } from "../../base/errors.ts";
import { mayAct } from "../../model/identity.ts";
import type { Caller } from "../../model/identity.ts";

type Label = { readonly least: number; readonly most: number; readonly ciOnly: boolean };

const labels: Readonly<Record<string, Label>> = {
  Verified: { least: -2, most: 2, ciOnly: true },
  "Code-Review": { least: -2, most: 2, ciOnly: false },
  Workflow: { least: 0, most: 1, ciOnly: false },
};

/** Each label's range, for whoever reports or asks for votes. */
export const labelRanges: ReadonlyMap<string, Pick<Label, "least" | "most">> = new Map(
  Object.entries(labels).map(([name, { least, most }]) => [name, { least, most }]),
);

/** The CI's own name on comments and votes; no user's, since those are lower-case. */
export const ciAccount = "Rackyard CI";

/** Throws `bad-request` for an unknown label or a value beyond its range. */
export function checkVote(label: string, value: number): void {
  const known = Object.hasOwn(labels, label) ? labels[label] : undefined;
  if (!known) {
    const names = Object.keys(labels).join(", ");
    fail("bad-request", `there is no label ${JSON.stringify(label)}: labels are ${names}`);
  }
  if (!Number.isInteger(value) || value < known.least || value > known.most) {
    fail("bad-request", `${label} takes ${known.least} to ${known.most}, not ${value}`);
  }
}

/** Throws `not-allowed` where this person may not cast this vote. */
export function checkVoter(label: string, by: Caller): void {
  checkRole(by, "vote");
  if (labels[label]?.ciOnly) fail("not-allowed", `${label} is the CI's alone`);
}

/** Pushing, commenting and voting take a developer. */
export function checkRole(by: Caller, act: string): void {
  if (!mayAct(by.role, "developer")) {
    fail("not-allowed", `${by.name} is a ${by.role}: to ${act} takes a developer`);
  }
}

/** Abandoning and restoring: one's own, or an operator's act. */
export function checkOwner(by: Caller, owner: string, act: string): void {
  checkRole(by, act);
  if (by.name !== owner && !mayAct(by.role, "operator")) {
    fail("not-allowed", `the change is ${owner}'s: to ${act} it takes its owner or an operator`);
  }
}

/** Branches themselves are written by operators only (surface.md §6). */
export function mayPushDirectly(by: Caller): boolean {
  return mayAct(by.role, "operator");
}
