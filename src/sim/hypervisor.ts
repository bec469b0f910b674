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
type SimDomain = {
  spec: DomainSpec;
  plan: string;
  power: "on" | "off";
  /** What somebody made of its definition, past us. */
  media?: string[];
  boot?: string[];
  nvram?: string;
  unlike?: string[];
};
type SimDisk = { bytes: number; base: string | null; identity?: string };

export type SimHypervisor = Hypervisor & {
  readonly world: SimWorld;
  /** Passes an event of libvirt's on, as if it had happened. */
  emit(event: DomainEvent): void;
  /** dnsmasq acknowledged an address. */
  acknowledge(ack: { mac: string; ip: string }): void;
};

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
  /** The call's effect happens between two gates: a world may end before or after it. */
  const act: Act = async (call, effect) => {
    await gate(call);
    const value = effect();
    await gate(`${call} done`);
    return value;
  };
  const events = openBell<DomainEvent>();
  const acks = openBell<{ mac: string; ip: string }>();
  return {
    world,
    emit: events.ring,
    acknowledge: acks.ring,
    accelerator: "tcg",
    acceleratorReason: "simulated",
    libvirtUri: "sim:///system",
    netns: "sim",
    daemons: simDaemons(act),
    setAccounts: (_group, accounts) =>
      act("setAccounts", () => {
        world.accounts.clear();
        for (const { name } of accounts) world.accounts.add(name);
      }),
    domains: { ...simDomains(act, world), watch: events.listen },
    disks: simDisks(act, world),
    bridges: simBridges(act, world),
    portRules: {
      apply: (rules) => act("portRules.apply", () => void (world.rules = [...rules])),
      current: () => act("portRules.current", () => world.rules),
    },
    testNetwork: { ...simTestNetwork(act, world), watchAcks: acks.listen },
    processes: () => Promise.resolve([]),
    problems: () => Promise.resolve([]),
    plan: () => act("plan", () => []),
    mend: () => act("mend", () => []),
    onRestart: () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

type Act = <T>(call: string, effect: () => T) => Promise<T>;

/** Who listens hears what rings, until its signal aborts. */
function openBell<T>() {
  const listeners = new Set<(value: T) => void>();
  return {
    ring: (value: T): void => listeners.forEach((listener) => listener(value)),
    listen: async (onValue: (value: T) => void, signal: AbortSignal): Promise<void> => {
      listeners.add(onValue);
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
      listeners.delete(onValue);
    },
  };
}

function simDaemons(act: Act): Hypervisor["daemons"] {
  const daemons = new Map<string, DaemonSpec>();
  return {
    ensure: (spec) =>
      act("daemons.ensure", () => {
        daemons.set(spec.name, spec);
        return "started" as const;
      }),
    restart: (name) => act("daemons.restart", () => void name),
    signal: () => undefined,
    stop: (name) => act("daemons.stop", () => void daemons.delete(name)),
    list: () =>
      act("daemons.list", () => [...daemons.keys()].map((name, at) => ({ name, pid: at + 2 }))),
    logOf: () => "/dev/null",
    missing: () => Promise.resolve([]),
  };
}

function simDomains(act: Act, world: SimWorld): Omit<Hypervisor["domains"], "watch"> {
  const digest = (spec: DomainSpec): string =>
    createHash("sha256").update(JSON.stringify(spec)).digest("hex");
  let last: ReturnType<Hypervisor["domains"]["lastList"]>;
  return {
    list: () =>
      act("domains.list", () => {
        const domains = [...world.domains.values()].map(({ spec, plan, power }): DomainState => {
          return { name: spec.name, uuid: spec.uuid, power, mark: spec.mark, plan };
        });
        last = { domains, ageMs: 0 };
        return domains;
      }),
    lastList: () => last,
    digest,
    look: (spec) =>
      act("domains.look", () => {
        const found = world.domains.get(spec.uuid);
        if (!found) throw new Error(`no domain ${spec.uuid}`);
        const { media = [], boot = found.spec.boot, nvram = null, unlike = [] } = found;
        return { definition: digest(found.spec), boot, media, nvram, unlike };
      }),
    define: (spec) =>
      act("domains.define", () => {
        const power = world.domains.get(spec.uuid)?.power ?? "off";
        world.domains.set(spec.uuid, { spec, plan: digest(spec), power });
      }),
    undefine: (uuid) => act("domains.undefine", () => void world.domains.delete(uuid)),
    start: (uuid) =>
      act("domains.start", () => (setPower(world, uuid, "on") ? "started" : "was-on")),
    startOnce: (spec) => act("domains.startOnce", () => void setPower(world, spec.uuid, "on")),
    destroy: (uuid) =>
      act("domains.destroy", () => (setPower(world, uuid, "off") ? "destroyed" : "was-off")),
    shutdown: (uuid) => act("domains.shutdown", () => void setPower(world, uuid, "off")),
    reset: () => act("domains.reset", () => undefined),
    endOnReboot: () => act("domains.endOnReboot", () => undefined),
    processesOf: (uuid) =>
      act("domains.processesOf", () => (world.domains.get(uuid)?.power === "on" ? [4711] : [])),
  };
}

/** False where it was so already. Taps come and go with the machine. */
function setPower(world: SimWorld, uuid: string, power: "on" | "off"): boolean {
  const domain = world.domains.get(uuid);
  if (!domain) throw new Error(`no domain ${uuid}`);
  if (domain.power === power) return false;
  domain.power = power;
  for (const { bridge, tap } of domain.spec.nics) {
    const facts = world.bridges.get(bridge);
    if (!facts) continue;
    const others = facts.ports.filter((name) => name !== tap);
    world.bridges.set(bridge, { ...facts, ports: power === "on" ? [...others, tap] : others });
  }
  return true;
}

const EMPTY_DISK = 196_616;
/** Files of all worlds: each is another. */
let made = 0;

function simDisks(act: Act, world: SimWorld): Hypervisor["disks"] {
  return {
    createOverlay: ({ path, base }) =>
      act("disks.createOverlay", () => {
        const identity = String(++made);
        world.disks.set(path, { bytes: EMPTY_DISK, base: base?.path ?? null, identity });
      }),
    remove: (path) => act("disks.remove", () => void world.disks.delete(path)),
    facts: (path) =>
      act("disks.facts", () => {
        const found = world.disks.get(path);
        return found ? { ...found, identity: found.identity ?? "" } : null;
      }),
  };
}

function simBridges(act: Act, world: SimWorld): Hypervisor["bridges"] {
  const empty: BridgeFacts = { exists: true, ports: [], flows: "default", addresses: 0 };
  return {
    ensurePrivate: (name) =>
      act("bridges.ensurePrivate", () => {
        if (!world.bridges.has(name)) world.bridges.set(name, empty);
      }),
    remakePrivate: (name) =>
      act("bridges.remakePrivate", () => void world.bridges.set(name, empty)),
    remove: (name) => act("bridges.remove", () => void world.bridges.delete(name)),
    facts: (name) =>
      act("bridges.facts", () => world.bridges.get(name) ?? { ...empty, exists: false }),
    list: () => act("bridges.list", () => [...world.bridges.keys()]),
  };
}

function simTestNetwork(act: Act, world: SimWorld): Omit<Hypervisor["testNetwork"], "watchAcks"> {
  return {
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
    probeDhcp: () => act("testNetwork.probeDhcp", () => undefined),
    leases: () =>
      act("testNetwork.leases", () => [...world.leases].map(([mac, ip]) => ({ mac, ip }))),
  };
}
