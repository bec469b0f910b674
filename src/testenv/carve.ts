/**
 * How many TEs of which kind this host is carved into (H-1.6, H-1.7), with the sums for people.
 * Pure. Numbers are stable (H-1.9): what is there keeps its number as long as its kind is
 * wanted; growth takes the lowest free numbers, shrinking gives up the highest.
 */
import type { Config } from "../model/config.ts";
import type { Kind } from "../model/machine.ts";

export type HostSize = {
  readonly memoryMiB: number;
  readonly cpus: number;
  /** Free on the file system of the state directory, and what our own disks take of it. */
  readonly diskGiB: number;
};

export type Wanted = { readonly number: number; readonly kind: string };

export type Carving = {
  readonly wanted: readonly Wanted[];
  /** The sums, a line each. */
  readonly sums: readonly string[];
};

/** Overhead of one QEMU, its translation cache under emulation included. */
const OVERHEAD_MIB = 128;

type Amounts = { memoryMiB: number; cpus: number; diskGiB: number };
type CarveConfig = Pick<Config["teHost"], "kinds" | "carve" | "nodes">;

export function carve(
  config: CarveConfig,
  host: HostSize,
  nodes: Config["nodes"],
  present: readonly Wanted[],
): Carving {
  const reserve = config.nodes.reserve ?? reserveOf(nodes);
  const left: Amounts = {
    memoryMiB: host.memoryMiB - Math.max(2_048, host.memoryMiB / 10) - reserve.memoryMiB,
    cpus: host.cpus * config.carve.cpuOvercommit - reserve.cpus,
    diskGiB: 0.85 * (host.diskGiB - 10) - reserve.diskGiB,
  };
  const sums = [
    `host: ${show({ ...host })}; kept for nodes: ${show(reserve)}; for racks: ${show(left)}`,
  ];
  const counts = new Map<string, number>();
  let most = config.carve.max;
  const kinds = Object.entries(config.kinds);
  const take = (name: string, kind: Kind, count: number): void => {
    const part = partOf(kind, config.carve);
    left.memoryMiB -= count * part.memoryMiB;
    left.cpus -= count * part.cpus;
    left.diskGiB -= count * part.diskGiB;
    most -= count;
    counts.set(name, (counts.get(name) ?? 0) + count);
  };
  for (const [name, kind] of kinds) {
    const part = partOf(kind, config.carve);
    sums.push(`kind ${name}: ${show(part)} each`);
    if (kind.count === "auto") continue;
    const count = Math.min(kind.count, fits(left, part, most));
    if (count < kind.count) sums.push(`kind ${name}: ${kind.count} asked, room for ${count}`);
    take(name, kind, count);
  }
  // kinds that take what is left share it one by one
  const automatic = kinds.filter(([, kind]) => kind.count === "auto");
  for (let took = true; took;) {
    took = false;
    for (const [name, kind] of automatic) {
      if (fits(left, partOf(kind, config.carve), most) < 1) continue;
      take(name, kind, 1);
      took = true;
    }
  }
  for (const [name] of kinds) sums.push(`kind ${name}: ${counts.get(name) ?? 0} racks`);
  return { wanted: number(counts, present), sums };
}

function partOf(kind: Kind, given: CarveConfig["carve"]): Amounts {
  const { seed, machines } = kind;
  const running = machines.running ?? machines.count;
  return {
    memoryMiB:
      given.memoryPerTeMiB ??
      seed.memoryMiB + running * machines.memoryMiB + (1 + running) * OVERHEAD_MIB,
    cpus: given.cpusPerTe ?? seed.cpus + running * machines.cpus,
    diskGiB: given.diskPerTeGiB ?? (seed.diskGiB + running * machines.diskGiB) * given.diskFill,
  };
}

function fits(left: Amounts, part: Amounts, most: number): number {
  const room = Math.min(
    left.memoryMiB / part.memoryMiB,
    left.cpus / part.cpus,
    left.diskGiB / part.diskGiB,
    most,
  );
  return Math.max(0, Math.floor(room + 1e-9));
}

/** `maxNodes` × the largest label of each provider of nodes that this host is (H-1.6). */
function reserveOf(nodes: Config["nodes"]): Amounts {
  const sum: Amounts = { memoryMiB: 0, cpus: 0, diskGiB: 0 };
  for (const provider of Object.values(nodes.providers)) {
    const labels = provider.labels.flatMap((name) => nodes.labels[name] ?? []);
    const largest = (of: (label: (typeof labels)[number]) => number): number =>
      provider.maxNodes * Math.max(0, ...labels.map(of));
    sum.memoryMiB += largest((label) => label.memoryMiB + OVERHEAD_MIB);
    sum.cpus += largest((label) => label.cpus);
    sum.diskGiB += largest((label) => label.diskGiB * 0.3);
  }
  return sum;
}

function number(counts: ReadonlyMap<string, number>, present: readonly Wanted[]): Wanted[] {
  const left = new Map(counts);
  const wanted: Wanted[] = [];
  const use = (kind: string, at: number): void => {
    left.set(kind, (left.get(kind) ?? 0) - 1);
    wanted.push({ number: at, kind });
  };
  for (const te of [...present].sort((a, b) => a.number - b.number)) {
    if ((left.get(te.kind) ?? 0) > 0) use(te.kind, te.number);
  }
  // numbers whose kind changes are rebuilt in place, once they are free
  const taken = new Set(wanted.map((te) => te.number));
  for (const [kind, count] of left) {
    for (let rest = count, at = 1; rest > 0; at++) {
      if (taken.has(at)) continue;
      taken.add(at);
      use(kind, at);
      rest--;
    }
  }
  return wanted.sort((a, b) => a.number - b.number);
}

function show({ memoryMiB, cpus, diskGiB }: Amounts): string {
  return `${Math.floor(memoryMiB)} MiB, ${Math.round(cpus * 10) / 10} CPUs, ${Math.floor(diskGiB)} GiB`;
}
