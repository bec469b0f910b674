/**
 * Port rules of the shared bridge, held against restarts (H-2.6, H-1.12): the wanted ones lie in
 * the cell's runtime directory, the flows made of them in the switch. Flows name port numbers,
 * which a machine gets as it starts: whoever starts one calls `refresh`.
 */
import { join } from "node:path";
import { z } from "zod";
import { run } from "../../base/command.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import { dumpFlows, replaceFlows } from "../../openvswitch/ovs-ofctl.ts";
import type { OpenVswitch } from "../../openvswitch/ovs-vsctl.ts";
import { parseFlows, planFlows } from "../../openvswitch/port-rules-plan.ts";
import type { PortEntry, SwitchFacts } from "../../openvswitch/port-rules-plan.ts";
import { managementOf, SHARED_BRIDGE } from "./bridges.ts";
import type { PortRule, PortRules } from "../hypervisor-port.ts";
import { dhcpClientsHold, setDhcpClients } from "./packet-filter.ts";

const address = { tap: z.string(), mac: z.string(), ip: z.string() };
const rulesSchema = z.array(
  z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("seed"), ...address, open: z.array(z.string()) }),
    z.strictObject({ kind: z.literal("node"), ...address }),
  ]),
);

export type KeptPortRules = PortRules & {
  /** Makes the flows of the kept rules hold for the ports that are there now. */
  refresh(): Promise<void>;
  /** The same, and DHCP's clients whatever this process set before. */
  mend(): Promise<void>;
  /** Do the switch's flows differ from those of the kept rules? */
  differ(): Promise<boolean>;
};

/**
 * @param facts the switch's own ends; port numbers are asked each time
 * @param own MAC of the host's own probe, which asks for an address too; no port may send as it
 */
export function openPortRules(
  ovs: OpenVswitch,
  directory: string,
  facts: Omit<SwitchFacts, "numbers">,
  own: string,
): KeptPortRules {
  const path = join(directory, "port-rules.json");
  const target = managementOf(SHARED_BRIDGE);
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(act: () => Promise<T>): Promise<T> => {
    const done = last.then(act);
    last = done.catch(() => undefined);
    return done;
  };
  const kept = async (): Promise<readonly PortRule[]> =>
    rulesSchema.parse(JSON.parse((await readTextIfAny(path)) ?? "[]"));
  const flows = async (rules: readonly PortRule[]): Promise<string[]> =>
    planFlows(rules.map(entryOf), { ...facts, numbers: await ovs.portNumbers(SHARED_BRIDGE) });

  const macsOf = (rules: readonly PortRule[]): string[] => [own, ...rules.map(({ mac }) => mac)];
  // A fence waits for its flows alone: who may ask for an address seldom changes.
  let clients: string | undefined;
  async function enforce(rules: readonly PortRule[], always: boolean): Promise<void> {
    await replaceFlows(target, await flows(rules));
    const wanted = macsOf(rules).sort().join();
    if (!always && wanted === clients) return;
    await setDhcpClients(macsOf(rules));
    clients = wanted;
  }

  return {
    apply: (rules) =>
      inTurn(async () => {
        await writeFileAtomic(path, `${JSON.stringify(rules)}\n`);
        await enforce(rules, false);
      }),
    refresh: () => inTurn(async () => enforce(await kept(), false)),
    mend: () => inTurn(async () => enforce(await kept(), true)),
    differ: () =>
      inTurn(async () => {
        if (!(await dhcpClientsHold(macsOf(await kept())))) return true;
        const wanted = join(directory, "port-rules.flows");
        await writeFileAtomic(wanted, `${(await flows(await kept())).join("\n")}\n`);
        const args = ["-O", "OpenFlow14", "diff-flows", target, wanted];
        return (await run("ovs-ofctl", args, { accept: [0, 2] })).exitCode !== 0;
      }),
    current: () =>
      inTurn(async () => {
        const rules = await kept();
        const found = parseFlows(await dumpFlows(target));
        const numbers = await ovs.portNumbers(SHARED_BRIDGE);
        const ipOf = (number: number): string => found.entrances.get(number)?.ip ?? "unknown";
        return rules.map((rule) => {
          const number = numbers.get(rule.tap);
          if (rule.kind === "node" || number === undefined) return rule;
          const open = found.pairs.filter(([from]) => from === number).map(([, to]) => ipOf(to));
          // A peer whose machine is off has no port, and so no flow: as it is recorded.
          const there = new Set([...found.entrances.values()].map((entrance) => entrance.ip));
          return { ...rule, open: [...open, ...rule.open.filter((ip) => !there.has(ip))] };
        });
      }),
  };
}

function entryOf(rule: PortRule): PortEntry {
  const { tap, mac, ip } = rule;
  return { tap, mac, ip, open: rule.kind === "seed" ? rule.open : [] };
}
