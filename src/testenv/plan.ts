/**
 * The racks' part of a pass (H-1.2, H-1.4): from what should be there and what was found to
 * ordered actions, as data; nothing to do is an empty plan. Pure. A leased TE is never rebuilt:
 * what it misses makes it lost (H-1.12). What a reset is just making anew is left to it.
 */
import type { DomainState, PlannedAction, PortRule } from "../hypervisor/hypervisor-port.ts";
import { openTerms } from "./testenv-state.ts";
import type { Testenv } from "./testenv-state.ts";
import { seedRule } from "./parts.ts";
import type { TestenvParts } from "./parts.ts";

export const testenvActions = [
  "set-gate-accounts",
  "lose-testenv",
  "rebuild-testenv",
  "make-private-bridge",
  "make-disk",
  "define-domain",
  "set-seed-rule",
  "remove-domain",
  "remove-private-bridge",
  "prove-testenv",
] as const;
export type TestenvAction = PlannedAction & { readonly kind: (typeof testenvActions)[number] };

export type WantedTestenv = {
  readonly te: Testenv;
  readonly parts: TestenvParts;
  /** Digest of each domain's spec, by UUID. */
  readonly digests: ReadonlyMap<string, string>;
};

export type FoundParts = {
  readonly hostId: string;
  readonly domains: readonly DomainState[];
  readonly bridges: readonly string[];
  /** Paths of disks that exist. */
  readonly disks: ReadonlySet<string>;
  readonly rules: readonly PortRule[];
  /** Numbers of the TEs that the gate serves. */
  readonly accounts: readonly number[];
};

type Make = (kind: TestenvAction["kind"], target: string, why: string, undo: string) => void;

export function planTestenvs(wanted: readonly WantedTestenv[], found: FoundParts): TestenvAction[] {
  const actions: TestenvAction[] = [];
  const make: Make = (kind, target, why, undo) => actions.push({ kind, target, why, undo });
  const there = wanted.filter(({ te }) => te.phase.state !== "removed");
  const numbers = there.map(({ te }) => te.number);
  if (!sameNumbers(numbers, found.accounts)) {
    make("set-gate-accounts", "gate", "a TE's account is missing or too many", "none");
  }
  for (const one of there) planOne(one, found, make);
  removeUnwanted(there, found, make);
  return order(actions);
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((number) => b.includes(number));
}

function planOne(one: WantedTestenv, found: FoundParts, make: Make): void {
  const { te, parts } = one;
  const { state } = te.phase;
  const target = `te${te.number}`;
  if (state === "resetting" || state === "faulty" || state === "removing") return;
  if (state === "quarantined") return; // as it is, for whoever looks into it
  const missing = missingParts(one, found);
  if (openTerms(te)) {
    const broken = missing.filter(({ kind }) => kind !== "set-seed-rule");
    if (broken.length > 0) {
      make("lose-testenv", target, broken.map(({ why }) => why).join("; "), "none");
    }
    if (broken.length === 0)
      for (const part of missing) make(part.kind, part.target, part.why, part.undo);
    return;
  }
  if (state === "ready" && missing.length > 0) {
    make("rebuild-testenv", target, missing.map(({ why }) => why).join("; "), "none");
  }
  for (const part of missing) make(part.kind, part.target, part.why, part.undo);
  if (state === "provisioning") {
    make("prove-testenv", target, `${parts.kindName}: all parts are there`, "none");
  }
}

function missingParts({ te, parts, digests }: WantedTestenv, found: FoundParts): TestenvAction[] {
  const missing: TestenvAction[] = [];
  const add: Make = (kind, target, why, undo) => missing.push({ kind, target, why, undo });
  if (!found.bridges.includes(parts.bridge)) {
    add("make-private-bridge", parts.bridge, "there is no such bridge", "remove the bridge");
  }
  const domains = new Map(found.domains.map((domain) => [domain.uuid, domain]));
  for (const { spec, disk } of parts.all) {
    if (!found.disks.has(disk.path)) {
      add("make-disk", spec.name, `${spec.name} has no disk`, "remove the file");
    }
    const domain = domains.get(spec.uuid);
    if (!domain) add("define-domain", spec.name, `${spec.name} is not defined`, "undefine it");
    else if (domain.plan !== digests.get(spec.uuid) && !openTerms(te)) {
      add("define-domain", spec.name, `${spec.name} is not defined as planned`, "none");
    }
  }
  const rule = seedRule(parts, openTerms(te)?.holderAddresses ?? []);
  const kept = found.rules.find(({ tap }) => tap === rule.tap);
  if (!kept || !sameRule(kept, rule)) {
    add("set-seed-rule", rule.tap, "the seed's port rule is not as wanted", "remove the rule");
  }
  return missing;
}

function sameRule(a: PortRule, b: PortRule): boolean {
  const open = (rule: PortRule): string =>
    rule.kind === "seed" ? [...rule.open].sort().join() : "node";
  return a.mac === b.mac && a.ip === b.ip && open(a) === open(b);
}

/** H-1.10: marked as ours and wanted by nobody; nothing else is ever touched. */
function removeUnwanted(there: readonly WantedTestenv[], found: FoundParts, make: Make): void {
  const byNumber = new Map(there.map((one) => [one.te.number, one]));
  const wanted = (number: number, uuid: string): boolean => {
    const one = byNumber.get(number);
    if (!one) return false;
    // a machine too many of a TE in use goes when it is free again
    return openTerms(one.te) !== null || one.parts.all.some(({ spec }) => spec.uuid === uuid);
  };
  for (const { mark, name, uuid } of found.domains) {
    if (mark?.kind !== "machine" || mark.host !== found.hostId || wanted(mark.te, uuid)) continue;
    make("remove-domain", name, "ours, and no longer wanted", "none");
  }
  for (const name of found.bridges) {
    const number = Number(/^brbm(\d+)$/.exec(name)?.[1] ?? Number.NaN);
    if (Number.isNaN(number) || byNumber.has(number)) continue;
    make("remove-private-bridge", name, "ours, and no longer wanted", "none");
  }
}

/** Bridges before accounts before disks before domains before states (H-1.4). */
function order(actions: readonly TestenvAction[]): TestenvAction[] {
  const rank: Record<TestenvAction["kind"], number> = {
    "lose-testenv": 0,
    "rebuild-testenv": 1,
    "make-private-bridge": 2,
    "set-gate-accounts": 3,
    "make-disk": 4,
    "define-domain": 5,
    "set-seed-rule": 6,
    "remove-domain": 7,
    "remove-private-bridge": 8,
    "prove-testenv": 9,
  };
  return [...actions].sort((a, b) => rank[a.kind] - rank[b.kind]);
}
