/**
 * Keeps the host's own parts in order (H-1.2–H-1.4, H-1.12): looks, plans (plan.ts), performs
 * (execute.ts). After a daemon was started again, what it forgot is set anew at once; flows live
 * in ovs-vswitchd alone.
 */
import { describeError, fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { retry } from "../base/retry.ts";
import type { OpenVswitch } from "../openvswitch/ovs-vsctl.ts";
import type { CellAccounts } from "./etc/accounts.ts";
import type { Cell } from "./cell.ts";
import { cellPlaces } from "./cell-paths.ts";
import { dnsmasq, libvirtd, ovsdbServer, ovsVswitchd } from "./daemon-specs.ts";
import type { Supervision } from "./daemons.ts";
import { openExecutor } from "./execute.ts";
import type { PlannedAction } from "./hypervisor-port.ts";
import { applyPacketFilter, packetFilterHolds } from "./network/packet-filter.ts";
import { planHost } from "./plan.ts";
import type { HostAction, HostFacts } from "./plan.ts";
import type { KeptPortRules } from "./network/port-rules.ts";
import {
  connectWayOut,
  dnsmasqSettings,
  makeSharedBridge,
  setHostAddress,
  sharedBridgeFacts,
} from "./network/test-network.ts";

export type HostKeeper = {
  plan(): Promise<PlannedAction[]>;
  /** One pass; returns what it planned. */
  mend(): Promise<PlannedAction[]>;
  /** Adopts what lives, mends the rest; throws what could not be mended. */
  bringUp(): Promise<void>;
  onRestart(callback: (daemon: string) => void): void;
  /** Daemons that are not there, and what could not be mended. */
  problems(): Promise<readonly string[]>;
};

export function openKeeper(
  host: { readonly cell: Cell; readonly hostId: string; readonly gatePort: number },
  parts: {
    readonly daemons: Supervision;
    readonly ovs: OpenVswitch;
    readonly portRules: KeptPortRules;
    readonly accounts: CellAccounts;
    readonly log: Log;
  },
): HostKeeper {
  const { cell } = host;
  const { daemons, ovs, portRules, accounts, log } = parts;
  const places = cellPlaces(cell.state);
  const specs = [
    ovsdbServer(places),
    ovsVswitchd(),
    libvirtd(places),
    dnsmasq(places, dnsmasqSettings(cell, places)),
  ];
  const callbacks: ((daemon: string) => void)[] = [];
  let last: Promise<unknown> = Promise.resolve();

  async function facts(): Promise<HostFacts> {
    const states = await Promise.all(specs.map((spec) => daemons.running(spec)));
    const deadDaemons = specs.filter((_spec, index) => !states[index]).map(({ name }) => name);
    const own = { packetFilter: await packetFilterHolds(), etc: await accounts.hold() };
    if (deadDaemons.some((name) => name.startsWith("ovs"))) {
      const unseen = { bridge: false, address: false, wayOut: false, flows: "differ" } as const;
      return { ...unseen, ...own, deadDaemons };
    }
    const shared = await sharedBridgeFacts(cell, ovs);
    const differ = !shared.bridge || (await portRules.differ());
    return { ...shared, ...own, deadDaemons, flows: differ ? "differ" : "as planned" };
  }

  async function makeTestNetwork(): Promise<void> {
    await makeSharedBridge(cell, places, ovs, host.hostId);
    // A DHCP server that was bound to the bridge before does not serve the new one.
    if (!(await daemons.list()).some(({ name }) => name === "dnsmasq")) return;
    await setHostAddress(cell);
    await daemons.restart("dnsmasq");
  }

  async function startDaemon({ target }: PlannedAction): Promise<void> {
    const spec = specs.find(({ name }) => name === target);
    if (spec) await daemons.ensure(spec);
  }

  const performers: Record<HostAction, (action: PlannedAction) => Promise<void>> = {
    "mend-etc": () => accounts.mend(),
    "start-daemon": startDaemon,
    "apply-packet-filter": () =>
      applyPacketFilter({ gatePort: host.gatePort, machineIp: cell.machineIp }),
    "make-test-network": makeTestNetwork,
    "set-host-address": () => setHostAddress(cell),
    "connect-way-out": () => connectWayOut(cell, ovs),
    "set-port-rules": () => portRules.mend(),
  };
  const executor = openExecutor(performers, { log, monoMs: () => performance.now() });

  const plan = async (): Promise<PlannedAction[]> => planHost(await facts());
  const pass = async (): Promise<PlannedAction[]> => {
    const planned = await plan();
    await executor.perform(planned);
    return planned;
  };
  const mend = (): Promise<PlannedAction[]> => {
    const done = last.then(pass);
    last = done.catch(() => undefined);
    return done;
  };

  async function mendNow(daemon: string): Promise<void> {
    if (daemon.startsWith("ovs")) await portRules.refresh();
    await mend();
  }

  async function afterRestart(daemon: string): Promise<void> {
    try {
      await retry(() => mendNow(daemon), {
        tries: 5,
        firstMs: limits.mendFirstMs,
        lastMs: limits.mendLastMs,
      });
    } catch (error) {
      log.error({ daemon, why: describeError(error) }, "not mended after a restart");
    }
    for (const callback of callbacks) callback(daemon);
  }
  daemons.onRestart((daemon) => void afterRestart(daemon));

  return {
    plan,
    mend,
    onRestart: (callback) => void callbacks.push(callback),
    async problems() {
      const dead = await daemons.missing();
      return [
        ...dead.map((name) => `${name} does not run; it is being started again`),
        ...executor.failures().map(({ action, error }) => `${action.kind} fails: ${error}`),
      ];
    },
    async bringUp() {
      for (const spec of specs) if (await daemons.running(spec)) await daemons.ensure(spec);
      await mend();
      const [failure] = executor.failures();
      if (failure) {
        const { kind, target } = failure.action;
        fail("unavailable", `${kind} ${target}: ${failure.error}`);
      }
    },
  };
}
