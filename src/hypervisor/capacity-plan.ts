/**
 * How many TEs a host carries (H-1.6), what its CI nodes take first, and whether a machine may be
 * switched on (H-1.8). Sums over memory, CPUs and disk, each shown when the answer is no. Pure.
 */
import type { Kind } from "../model/machine.ts";

/** What the host has, as found. */
export type HostCapacity = {
  readonly memoryTotalMiB: number;
  readonly cpusOnline: number;
  /** Free space plus what is ours already. */
  readonly diskGiB: number;
};

export type Share = {
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly diskGiB: number;
};

export type CarveSettings = {
  readonly max: number;
  readonly cpuOvercommit: number;
  readonly diskFill: number;
  readonly memoryPerTeMiB?: number | undefined;
  readonly cpusPerTe?: number | undefined;
  readonly diskPerTeGiB?: number | undefined;
};

/** QEMU's own memory beside a guest's; emulation's translation cache is in it. */
export const OVERHEAD_MIB = 128;
/** Never left to TEs: the machine itself, and room so that it never fills up. */
const HOST_MEMORY_MIB = 2_048;
const HOST_DISK_GIB = 10;
const DISK_USE = 0.85;
/** Free memory that a power-on must leave (H-1.8). */
export const FREE_MEMORY_MIB = 512;

/** What CI nodes take off the host's part first: `maxNodes` of the largest label. */
export function nodeReserve(
  labels: readonly Share[],
  maxNodes: number,
  configured: Share | undefined,
): Share {
  if (configured) return configured;
  const most = (of: (label: Share) => number): number => Math.max(0, ...labels.map(of)) * maxNodes;
  return {
    memoryMiB: most((label) => label.memoryMiB + OVERHEAD_MIB),
    cpus: most((label) => label.cpus),
    diskGiB: most((label) => label.diskGiB),
  };
}

/** What one TE of a kind takes. */
export function testenvShare(kind: Kind, settings: CarveSettings): Share {
  const { seed, machines } = kind;
  const running = Math.min(machines.running ?? machines.count, machines.count);
  const guestsMiB = seed.memoryMiB + running * machines.memoryMiB;
  const disksGiB = seed.diskGiB + running * machines.diskGiB;
  return {
    memoryMiB: settings.memoryPerTeMiB ?? guestsMiB + (1 + running) * OVERHEAD_MIB,
    cpus: settings.cpusPerTe ?? seed.cpus + running * machines.cpus,
    diskGiB: settings.diskPerTeGiB ?? disksGiB * settings.diskFill,
  };
}

/** What the host may give to TEs at all. */
export function hostShare(host: HostCapacity, reserve: Share, settings: CarveSettings): Share {
  const keptMiB = Math.max(HOST_MEMORY_MIB, host.memoryTotalMiB * 0.1);
  return {
    memoryMiB: host.memoryTotalMiB - keptMiB - reserve.memoryMiB,
    cpus: host.cpusOnline * settings.cpuOvercommit - reserve.cpus,
    diskGiB: (host.diskGiB - HOST_DISK_GIB - reserve.diskGiB) * DISK_USE,
  };
}

export type CarvePlan =
  | {
      readonly kind: "carved";
      /** TEs of each kind, in the order of the configuration. */
      readonly counts: readonly { readonly name: string; readonly count: number }[];
      readonly sums: readonly string[];
    }
  | { readonly kind: "refused"; readonly why: string; readonly sums: readonly string[] };

/**
 * Counts per kind: those with a number first, then the `auto` ones take what is left in turn. A
 * number that does not fit, and a plan without a single TE, are refused with the sums.
 */
export function planCarve(
  kinds: Readonly<Record<string, Kind>>,
  host: HostCapacity,
  reserve: Share,
  settings: CarveSettings,
): CarvePlan {
  const total = hostShare(host, reserve, settings);
  const names = Object.keys(kinds);
  const shares = new Map(names.map((name) => [name, testenvShare(kinds[name]!, settings)]));
  const counts = new Map(names.map((name) => [name, 0]));
  const sums = sumsOf(total, shares, host, reserve);
  let left = total;
  let room = settings.max;
  const take = (name: string): boolean => {
    const rest = minus(left, shares.get(name)!);
    if (room === 0 || short(rest).length > 0) return false;
    left = rest;
    room--;
    counts.set(name, counts.get(name)! + 1);
    return true;
  };
  for (const name of names) {
    const { count } = kinds[name]!;
    const wanted = count === "auto" ? 0 : count;
    for (let n = 0; n < wanted; n++) {
      if (take(name)) continue;
      const lacking = room === 0 ? ["carve.max"] : short(minus(left, shares.get(name)!));
      const why = `${wanted} TEs of kind ${name} do not fit, only ${n}: ${lacking.join(", ")}`;
      return { kind: "refused", why, sums };
    }
  }
  let open = names.filter((name) => kinds[name]!.count === "auto");
  while (open.length > 0) open = open.filter(take);
  if (room === settings.max && names.some((name) => kinds[name]!.count !== 0)) {
    const [first = ""] = names;
    const lacking = short(minus(total, shares.get(first)!));
    return { kind: "refused", why: `not one TE fits: ${lacking.join(", ")} too small`, sums };
  }
  return {
    kind: "carved",
    counts: names.map((name) => ({ name, count: counts.get(name)! })),
    sums,
  };
}

function minus(one: Share, other: Share): Share {
  return {
    memoryMiB: one.memoryMiB - other.memoryMiB,
    cpus: one.cpus - other.cpus,
    diskGiB: one.diskGiB - other.diskGiB,
  };
}

function short(rest: Share): string[] {
  return [
    ...(rest.memoryMiB < 0 ? ["memory"] : []),
    ...(rest.cpus < 0 ? ["CPUs"] : []),
    ...(rest.diskGiB < 0 ? ["disk"] : []),
  ];
}

/** The sums as people read them: host, reserve, what each kind takes, how many fit by each. */
function sumsOf(
  total: Share,
  shares: ReadonlyMap<string, Share>,
  host: HostCapacity,
  reserve: Share,
): string[] {
  const fit = (all: number, one: number): number => Math.max(0, Math.floor(all / one));
  const { memoryTotalMiB: memoryMiB, cpusOnline: cpus, diskGiB } = host;
  const whole = { memoryMiB, cpus, diskGiB };
  const lines = [
    `host: ${shown(whole)}`,
    `for CI nodes: ${shown(reserve)}`,
    `for TEs: ${shown(total)}`,
  ];
  for (const [name, share] of shares) {
    const by = [
      `${fit(total.memoryMiB, share.memoryMiB)} by memory`,
      `${fit(total.cpus, share.cpus)} by CPUs`,
      `${fit(total.diskGiB, share.diskGiB)} by disk`,
    ];
    lines.push(`a TE of kind ${name}: ${shown(share)}; that is ${by.join(", ")}`);
  }
  return lines;
}

function shown(share: Share): string {
  const round = (value: number): string => String(Math.round(value * 10) / 10);
  const { memoryMiB, cpus, diskGiB } = share;
  return `${round(memoryMiB)} MiB, ${round(cpus)} CPUs, ${round(diskGiB)} GiB disk`;
}

export type PowerOn = { readonly kind: "yes" } | { readonly kind: "no"; readonly why: string };

/** May a machine be switched on? (H-1.8) The kernel is never left to choose a victim. */
export function mayPowerOn(machine: {
  readonly name: string;
  readonly memoryMiB: number;
  /** Machines of its TE that are on, itself and the seed not counted. */
  readonly runningNow: number;
  readonly runningLimit: number;
  /** MemAvailable of the host. */
  readonly memoryAvailableMiB: number;
}): PowerOn {
  if (machine.runningNow >= machine.runningLimit) {
    const on = `${machine.runningNow} machines of this TE are on`;
    const why = `${machine.name} stays off: ${on}, and at most ${machine.runningLimit} may be`;
    return { kind: "no", why };
  }
  const leftMiB = Math.floor(machine.memoryAvailableMiB - machine.memoryMiB - OVERHEAD_MIB);
  if (leftMiB < FREE_MEMORY_MIB) {
    const left = `${Math.max(0, leftMiB)} MiB of free memory, under ${FREE_MEMORY_MIB}`;
    return { kind: "no", why: `${machine.name} stays off: the host would have ${left}` };
  }
  return { kind: "yes" };
}
