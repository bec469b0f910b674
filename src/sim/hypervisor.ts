/**
 * A hypervisor in memory, behind the same port as the real one: domains, disks, bridges, rules
 * and leases as plain values that a test may look at and spoil. Every call first passes `gate`,
 * which may hold it, fail it, or let the world end there. No libvirt, no files, no time.
 */
import { createHash } from "node:crypto";
import type {
  BridgeFacts,
  DaemonSpec,
  DomainEvent,
  DomainSpec,
  DomainState,
  Hypervisor,
  PortRule,
} from "../hypervisor/hypervisor-port.ts";

export type SimWorld = {
  readonly domains: Map<string, SimDomain>;
  readonly disks: Map<string, SimDisk>;
  readonly bridges: Map<string, BridgeFacts>;
  readonly reservations: Map<string, string>;
  readonly leases: Map<string, string>;
  readonly accounts: Set<string>;
  rules: PortRule[];
};
type SimDomain = { spec: DomainSpec; plan: string; power: "on" | "off" };
type SimDisk = { bytes: number; base: string | null };

export type SimHypervisor = Hypervisor & {
  readonly world: SimWorld;
  /** Passes an event of libvirt's on, as if it had happened. */
  emit(event: DomainEvent): void;
  /** dnsmasq acknowledged an address. */
  acknowledge(ack: { mac: string; ip: string }): void;
};

const EMPTY_DISK = 196_616;

export function emptyWorld(): SimWorld {
  return {
    domains: new Map(),
    disks: new Map(),
    bridges: new Map(),
    reservations: new Map(),
    leases: new Map(),
    accounts: new Set(),
    rules: [],
  };
}

/** One process' view of a world: another one may look at the same world with a gate of its own. */
export function simHypervisor(
  gate: (call: string) => Promise<void> = async () => undefined,
  world: SimWorld = emptyWorld(),
): SimHypervisor {
  const watchers = new Set<(event: DomainEvent) => void>();
  const ackWatchers = new Set<(ack: { mac: string; ip: string }) => void>();
  const daemons = new Map<string, DaemonSpec>();
  const digest = (spec: DomainSpec): string =>
    createHash("sha256").update(JSON.stringify(spec)).digest("hex");
  /** The call's effect happens between two gates: a world may end before or after it. */
  const act = async <T>(call: string, effect: () => T): Promise<T> => {
    await gate(call);
    const value = effect();
    await gate(`${call} done`);
    return value;
  };
  const untilAborted = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  const emptyBridge: BridgeFacts = { exists: true, ports: [], flows: "default", addresses: 0 };
  const ports = (spec: DomainSpec, change: (ports: Set<string>, tap: string) => void): void => {
    for (const { bridge, tap } of spec.nics) {
      const facts = world.bridges.get(bridge);
      if (!facts) continue;
      const names = new Set(facts.ports);
      change(names, tap);
      world.bridges.set(bridge, { ...facts, ports: [...names] });
    }
  };
  const setPower = (uuid: string, power: "on" | "off"): boolean => {
    const domain = world.domains.get(uuid);
    if (!domain) throw new Error(`no domain ${uuid}`);
    if (domain.power === power) return false;
    domain.power = power;
    ports(domain.spec, (names, tap) => (power === "on" ? names.add(tap) : names.delete(tap)));
    return true;
  };

  return {
    world,
    emit: (event) => watchers.forEach((watcher) => watcher(event)),
    acknowledge: (ack) => ackWatchers.forEach((watcher) => watcher(ack)),
    accelerator: "tcg",
    acceleratorReason: "simulated",
    libvirtUri: "sim:///system",
    netns: "sim",
    daemons: {
      ensure: (spec) =>
        act("daemons.ensure", () => {
          daemons.set(spec.name, spec);
          return "started" as const;
        }),
      restart: (name) => act("daemons.restart", () => void name),
      signal: () => undefined,
      stop: (name) => act("daemons.stop", () => void daemons.delete(name)),
      list: () =>
        act("daemons.list", () =>
          [...daemons.keys()].map((name, index) => ({ name, pid: index + 2 })),
        ),
    },
    setAccounts: (_group, accounts) =>
      act("setAccounts", () => {
        world.accounts.clear();
        for (const { name } of accounts) world.accounts.add(name);
      }),
    domains: {
      list: () =>
        act("domains.list", () =>
          [...world.domains.values()].map(({ spec, plan, power }): DomainState => {
            return { name: spec.name, uuid: spec.uuid, power, mark: spec.mark, plan };
          }),
        ),
      digest,
      define: (spec) =>
        act("domains.define", () => {
          const power = world.domains.get(spec.uuid)?.power ?? "off";
          world.domains.set(spec.uuid, { spec, plan: digest(spec), power });
        }),
      undefine: (uuid) => act("domains.undefine", () => void world.domains.delete(uuid)),
      start: (uuid) => act("domains.start", () => (setPower(uuid, "on") ? "started" : "was-on")),
      startOnce: (spec) => act("domains.startOnce", () => void setPower(spec.uuid, "on")),
      destroy: (uuid) =>
        act("domains.destroy", () => (setPower(uuid, "off") ? "destroyed" : "was-off")),
      shutdown: (uuid) => act("domains.shutdown", () => void setPower(uuid, "off")),
      reset: () => act("domains.reset", () => undefined),
      endOnReboot: () => act("domains.endOnReboot", () => undefined),
      async watch(onEvent, signal) {
        watchers.add(onEvent);
        await untilAborted(signal);
        watchers.delete(onEvent);
      },
      processesOf: (uuid) =>
        act("domains.processesOf", () => (world.domains.get(uuid)?.power === "on" ? [4711] : [])),
    },
    disks: {
      createOverlay: ({ path, base }) =>
        act("disks.createOverlay", () => {
          world.disks.set(path, { bytes: EMPTY_DISK, base: base?.path ?? null });
        }),
      remove: (path) => act("disks.remove", () => void world.disks.delete(path)),
      facts: (path) => act("disks.facts", () => world.disks.get(path) ?? null),
    },
    bridges: {
      ensurePrivate: (name) =>
        act("bridges.ensurePrivate", () => {
          if (!world.bridges.has(name)) world.bridges.set(name, emptyBridge);
        }),
      remakePrivate: (name) =>
        act("bridges.remakePrivate", () => void world.bridges.set(name, emptyBridge)),
      remove: (name) => act("bridges.remove", () => void world.bridges.delete(name)),
      facts: (name) =>
        act("bridges.facts", () => world.bridges.get(name) ?? { ...emptyBridge, exists: false }),
      list: () => act("bridges.list", () => [...world.bridges.keys()]),
    },
    portRules: {
      apply: (rules) => act("portRules.apply", () => void (world.rules = [...rules])),
      current: () => act("portRules.current", () => world.rules),
    },
    testNetwork: {
      cidr: "10.99.0.0/24",
      hostIp: "10.99.0.1",
      machineIp: "10.99.0.2",
      mtu: 1_500,
      bridge: "br-ctlplane",
      seedIp: (testenv) => `10.99.0.${10 + testenv}`,
      nodeIps: Array.from({ length: 71 }, (_, index) => `10.99.0.${180 + index}`),
      reserve: (mac, ip) => act("testNetwork.reserve", () => void world.reservations.set(mac, ip)),
      unreserve: (mac) => act("testNetwork.unreserve", () => void world.reservations.delete(mac)),
      releaseLease: (mac) => act("testNetwork.releaseLease", () => void world.leases.delete(mac)),
      leases: () =>
        act("testNetwork.leases", () => [...world.leases].map(([mac, ip]) => ({ mac, ip }))),
      async watchAcks(onAck, signal) {
        ackWatchers.add(onAck);
        await untilAborted(signal);
        ackWatchers.delete(onAck);
      },
    },
    processes: () => act("processes", () => []),
    plan: () => act("plan", () => []),
    mend: () => act("mend", () => []),
    onRestart: () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}
