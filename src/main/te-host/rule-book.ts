/**
 * Racks and nodes share one bridge, whose rules are set as a whole (H-2.6): here each sets its
 * own, and the whole is applied, one change after another.
 */
import type { PortRule, PortRules } from "../../hypervisor/hypervisor-port.ts";
import type { RuleBook } from "../../testenv/rack.ts";

/** Begins with the rules that hold now; those of nobody go with the passes of their owners. */
export async function openRuleBook(portRules: PortRules): Promise<RuleBook> {
  const rules = new Map((await portRules.current()).map((rule) => [rule.tap, rule]));
  let applied = textOf(rules.values());
  let last: Promise<unknown> = Promise.resolve();

  function apply(): Promise<void> {
    const done = last.then(async () => {
      const wanted = textOf(rules.values());
      if (wanted === applied) return;
      applied = "";
      await portRules.apply([...rules.values()]);
      applied = wanted;
    });
    last = done.catch(() => undefined);
    return done;
  }

  return {
    set(rule) {
      rules.set(rule.tap, rule);
      return apply();
    },
    remove(tap) {
      rules.delete(tap);
      return apply();
    },
  };
}

function textOf(rules: Iterable<PortRule>): string {
  return JSON.stringify([...rules].sort((a, b) => (a.tap < b.tap ? -1 : 1)));
}
