/**
 * The racks' part of a pass done: looks at what is there, and performs the plan's actions
 * (H-1.2). Each may run twice. What decides is plan.ts; what keeps trying is the pass itself.
 */
import { access } from "node:fs/promises";
import { assert } from "../base/assert.ts";
import { fail } from "../base/errors.ts";
import type { Hypervisor, PlannedAction } from "../hypervisor/hypervisor-port.ts";
import type { Testenv, TestenvEvent } from "./testenv-state.ts";
import { openTerms } from "./testenv-state.ts";
import { seedRule } from "./parts.ts";
import type { TestenvParts } from "./parts.ts";
import { planTestenvs } from "./plan.ts";
import type { FoundParts, TestenvAction, WantedTestenv } from "./plan.ts";
import type { RuleBook } from "./rack.ts";

export type ProvisionTools = {
  readonly hostId: string;
  readonly hypervisor: Hypervisor;
  readonly rules: RuleBook;
  readonly setAccounts: (numbers: readonly number[]) => Promise<void>;
  /** Numbers that the gate serves now. */
  readonly accounts: () => readonly number[];
  readonly testenvs: () => readonly Testenv[];
  readonly partsOf: (te: Pick<Testenv, "number" | "kind">) => TestenvParts;
  readonly post: (number: number, event: TestenvEvent) => Promise<void>;
};

export type Provision = {
  plan(): Promise<TestenvAction[]>;
  readonly performers: Readonly<
    Record<TestenvAction["kind"], (action: PlannedAction) => Promise<void>>
  >;
};

export function openProvision(tools: ProvisionTools): Provision {
  const { hypervisor } = tools;
  const { domains, disks, bridges, testNetwork } = hypervisor;

  function wanted(): WantedTestenv[] {
    return tools.testenvs().map((te) => {
      const parts = tools.partsOf(te);
      const digests = new Map(parts.all.map(({ spec }) => [spec.uuid, domains.digest(spec)]));
      return { te, parts, digests };
    });
  }

  async function look(all: readonly WantedTestenv[]): Promise<FoundParts> {
    const paths = all.flatMap(({ parts }) => parts.all.map(({ disk }) => disk.path));
    const [found, names, rules, exist] = await Promise.all([
      domains.list(),
      bridges.list(),
      hypervisor.portRules.current(),
      Promise.all(paths.map((path) => exists(path, disks))),
    ]);
    return {
      hostId: tools.hostId,
      domains: found,
      bridges: names,
      disks: new Set(paths.filter((_, index) => exist[index])),
      rules,
      accounts: tools.accounts(),
    };
  }

  /** The TE and machine that a target of the plan names: `seed_1`, `te1`, `brbm1`, `te1s0`. */
  function find(target: string): { te: Testenv; parts: TestenvParts } {
    const found = wanted().find(
      ({ te, parts }) =>
        target === `te${te.number}` ||
        target === parts.bridge ||
        target === parts.seed.spec.nics[0]!.tap ||
        parts.all.some(({ spec }) => spec.name === target),
    );
    assert(found, `no TE has ${target}`);
    return found;
  }
  const machine = (target: string) => find(target).parts.all.find((m) => m.spec.name === target)!;

  async function removeDomain(name: string): Promise<void> {
    const found = (await domains.list()).find((domain) => domain.name === name);
    if (found?.mark?.kind !== "machine" || found.mark.host !== tools.hostId) return;
    await domains.destroy(found.uuid);
    await domains.undefine(found.uuid);
  }

  return {
    async plan() {
      const all = wanted();
      return planTestenvs(all, await look(all));
    },
    performers: {
      "set-gate-accounts": () =>
        tools.setAccounts(
          tools
            .testenvs()
            .filter(({ phase }) => phase.state !== "removed")
            .map(({ number }) => number),
        ),
      "lose-testenv": ({ target, why }) => broken(target, why),
      "rebuild-testenv": ({ target, why }) => broken(target, why),
      "make-private-bridge": ({ target }) => bridges.ensurePrivate(target),
      "make-disk": async ({ target }) => {
        await disks.createOverlay({ ...machine(target).disk, base: null });
      },
      "define-domain": async ({ target }) => {
        const { spec } = machine(target);
        await domains.define(spec);
      },
      "set-seed-rule": async ({ target }) => {
        const { te, parts } = find(target);
        await testNetwork.reserve(parts.seed.spec.nics[0]!.mac, parts.seedIp, parts.seed.name);
        await tools.rules.set(seedRule(parts, openTerms(te)?.holderAddresses ?? []));
      },
      "remove-domain": ({ target }) => removeDomain(target),
      "remove-private-bridge": ({ target }) => bridges.remove(target),
      "prove-testenv": async ({ target }) => {
        const { te, parts } = find(target);
        const names = new Set([parts.bridge, ...parts.all.map(({ spec }) => spec.name)]);
        const all = wanted();
        const left = planTestenvs(all, await look(all)).filter((action) =>
          names.has(action.target),
        );
        if (left[0]) fail("unavailable", `${target}: ${left[0].why}`);
        await tools.post(te.number, { kind: "parts-ready" });
      },
    },
  };

  async function broken(target: string, detail: string): Promise<void> {
    await tools.post(find(target).te.number, { kind: "parts-broken", detail });
  }
}

/** A look at the file is enough here; qemu-img is asked by the reset's proof. */
async function exists(path: string, disks: Hypervisor["disks"]): Promise<boolean> {
  return access(path).then(
    () => true,
    async () => (await disks.facts(path)) !== null,
  );
}
