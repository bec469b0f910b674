/**
 * What the hypervisor side of a host does for racks and nodes, as they see it: domains, disks,
 * bridges, port rules, the test network. `testenv/` and `nodehost/` know these shapes alone.
 * All calls may be made twice; names and UUIDs come from the caller's record, never from outside.
 */
import type { MachineIndex } from "../model/machine.ts";

/** The mark on each of our domains (H-3.1, H-1.10): whose it is, and what. */
export type DomainMark =
  | {
      readonly kind: "machine";
      readonly host: string;
      readonly te: number;
      readonly machine: MachineIndex;
    }
  | { readonly kind: "node"; readonly host: string; readonly node: string };

export type NicSpec = {
  readonly mac: string;
  readonly bridge: string;
  /** Name of the tap on the host. */
  readonly tap: string;
  readonly mtu: number;
};

export type DiskSpec = {
  readonly path: string;
  readonly format: "qcow2" | "raw";
  readonly serial: string;
};

export type BootDevice = "network" | "hd" | "cdrom";

/** Everything from which a domain's XML is built (H-3.1); never taken from a live definition. */
export type DomainSpec = {
  readonly name: string;
  readonly uuid: string;
  readonly mark: DomainMark;
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly nics: readonly NicSpec[];
  readonly disks: readonly DiskSpec[];
  /** Order of boot devices; the rest follows behind (H-3.2). */
  readonly boot: readonly BootDevice[];
  readonly consoleLog: string;
  readonly consoleSocket: string;
  /** SMBIOS serial (`te1-n0`) and chassis asset (`te1`). */
  readonly serial: string;
  readonly asset: string;
  readonly guestAgent: boolean;
  /** An empty CD-ROM for media (machines), none for CI nodes. */
  readonly cdrom: boolean;
};

export type DomainState = {
  readonly name: string;
  readonly uuid: string;
  readonly power: "on" | "off" | "paused" | "unknown";
  /** Null: not ours. */
  readonly mark: DomainMark | null;
  /** Digest of the spec it was defined from; drift is judged by it. */
  readonly plan: string | null;
};

/**
 * Libvirt's and QEMU's events, joined (H-3.5, H-4.5): hints, the list is the truth. One end may
 * be told by several: what the guest did (`guest-reset`, `guest-shutdown`, `crashed`: its panic)
 * comes beside `stopped`. `host-killed`: QEMU was ended from outside, and not by `destroy` nor
 * by libvirt after its guest was done; the host's fault (H-1.12).
 */
export type DomainEvent = {
  readonly uuid: string;
  readonly name: string;
  readonly what:
    | "started"
    | "stopped"
    | "crashed"
    | "guest-reset"
    | "guest-shutdown"
    | "host-killed";
  readonly detail: string;
};

/** What a definition says when it is looked at, whatever our mark on it says (H-8.2). */
export type DomainLook = {
  /** SHA-256 of the definition as it stands there. */
  readonly definition: string;
  /** Devices in the order in which the next start tries them. */
  readonly boot: readonly string[];
  /** Files in drives for media. */
  readonly media: readonly string[];
  readonly nvram: string | null;
  /** Names of what is otherwise than its spec says. */
  readonly unlike: readonly string[];
};

export type Domains = {
  list(): Promise<DomainState[]>;
  /** The last list that was read, and its age: without a wait, for whoever may not. */
  lastList(): { readonly domains: readonly DomainState[]; readonly ageMs: number } | undefined;
  /** Throws `not-found` where there is none. */
  look(spec: DomainSpec): Promise<DomainLook>;
  /** Digest that `plan` of a domain defined from this spec has. */
  digest(spec: DomainSpec): string;
  define(spec: DomainSpec): Promise<void>;
  undefine(uuid: string): Promise<void>;
  /** Already on: content, and says so. */
  start(uuid: string): Promise<"started" | "was-on">;
  /** Starts with another boot order for exactly one boot (H-3.3). */
  startOnce(spec: DomainSpec, first: BootDevice): Promise<void>;
  /** Power off, as libvirt names it. */
  destroy(uuid: string): Promise<"destroyed" | "was-off">;
  shutdown(uuid: string): Promise<void>;
  reset(uuid: string): Promise<void>;
  /** A reboot of the guest ends the domain, so that the next start is ours (H-3.4). */
  endOnReboot(uuid: string): Promise<void>;
  /**
   * Calls back for each event until the signal aborts; reconnects by itself. What happened while
   * libvirtd was away is not told: compare the list after `onRestart`, and every 30 s.
   */
  watch(onEvent: (event: DomainEvent) => void, signal: AbortSignal): Promise<void>;
  /** Pids of QEMU processes with this UUID on their command line; after `destroy` none. */
  processesOf(uuid: string): Promise<number[]>;
};

export type Disks = {
  /** A fresh overlay, made aside and renamed (H-7.6); `base: null`: an empty disk. */
  createOverlay(overlay: {
    path: string;
    base: { path: string; format: "qcow2" | "raw" } | null;
    sizeBytes: number;
  }): Promise<void>;
  remove(path: string): Promise<void>;
  /**
   * What lies there: size on disk, backing file, and an identity that no other file has or had;
   * null where there is none.
   */
  facts(path: string): Promise<{ bytes: number; base: string | null; identity: string } | null>;
};

export type BridgeFacts = {
  readonly exists: boolean;
  readonly ports: readonly string[];
  /** "default": the one NORMAL flow; else how many others. */
  readonly flows: "default" | number;
  readonly addresses: number;
};

export type Bridges = {
  /** A private bridge brbmN: no host address, IPv6 off, its device down (H-2.7). */
  ensurePrivate(name: string): Promise<void>;
  /** Removed and made anew: no port, flow, mirror or learned address is left (H-8.1 step 4). */
  remakePrivate(name: string): Promise<void>;
  remove(name: string): Promise<void>;
  facts(name: string): Promise<BridgeFacts>;
  /** Our private bridges, by their mark `external_ids:rackyard-host`; br-ctlplane is not among. */
  list(): Promise<string[]>;
};

/** Who may talk to whom on the shared bridge (H-2.6); rules are set anew as a whole. */
export type PortRule =
  | {
      readonly kind: "seed";
      readonly tap: string;
      readonly mac: string;
      readonly ip: string;
      readonly open: readonly string[];
    }
  | { readonly kind: "node"; readonly tap: string; readonly mac: string; readonly ip: string };

export type PortRules = {
  /** Makes exactly these rules hold, changing only what differs; durable for daemon restarts. */
  apply(rules: readonly PortRule[]): Promise<void>;
  /**
   * Rules as they stand in the switch: `open` is read from its flows. A machine that is off has
   * no port, and so no flow; of it the rule is told that will hold when it starts.
   */
  current(): Promise<readonly PortRule[]>;
};

export type TestNetwork = {
  readonly cidr: string;
  readonly hostIp: string;
  readonly machineIp: string;
  readonly mtu: number;
  readonly bridge: "br-ctlplane";
  seedIp(testenv: number): string;
  /** Addresses for CI nodes: .180–.250. */
  readonly nodeIps: readonly string[];
  /** DHCP gives `mac` this address for ever, until `unreserve`. */
  reserve(mac: string, ip: string, name: string): Promise<void>;
  unreserve(mac: string): Promise<void>;
  /** Ends the DHCP lease of a MAC (reset, step 4). */
  releaseLease(mac: string): Promise<void>;
  leases(): Promise<{ mac: string; ip: string }[]>;
  /** A machine that asks for its reserved address is seen to be offered it; throws if not. */
  probeDhcp(signal: AbortSignal): Promise<void>;
  /** Calls back when dnsmasq acknowledges an address (`seed-up`). */
  watchAcks(onAck: (ack: { mac: string; ip: string }) => void, signal: AbortSignal): Promise<void>;
};

/** One action of a pass (H-1.2): data first, done by the executor. May be done twice. */
export type PlannedAction = {
  readonly kind: string;
  readonly target: string;
  readonly why: string;
  readonly undo: string;
};

/** A daemon of the cell: started detached, it outlives the agent and is adopted by its pid file. */
export type DaemonSpec = {
  /** As status shows it; its pid file is `<state>/run/<name>.pid`. */
  readonly name: string;
  /** Absolute path. It must stay in the foreground: the pid we started is the daemon's. */
  readonly program: string;
  readonly args: readonly string[];
  /** Name of the program that `program` becomes (exec), where it is another. */
  readonly executable?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Where stdout and stderr go, appended; default `<state>/log/<name>.log`. */
  readonly logFile?: string;
  /** True once it serves; polled until limits.daemonStartMs. */
  readonly ready: () => Promise<boolean>;
  /** Made anew before each start: its configuration, its directories. */
  readonly prepare?: () => Promise<void>;
  /** Daemons whose restart renews this one too. */
  readonly with?: readonly string[];
  /** The process that does the work, where `program` only keeps it running: its own pid file. */
  readonly worker?: { readonly pidFile: string; readonly executable: string };
};

/** Supervision of the cell's daemons (H-1.12): found dead within 250 ms, started again at once. */
export type Daemons = {
  /** Adopts the living one or starts it; from then on it is kept running. May be called twice. */
  ensure(spec: DaemonSpec): Promise<"adopted" | "started">;
  /** Ends it and starts it again, e.g. after its configuration changed. */
  restart(name: string): Promise<void>;
  /** One signal to the daemon itself, e.g. SIGHUP to read its files again. */
  signal(name: string, signal: NodeJS.Signals): void;
  /** Ends it for good; no longer kept running. */
  stop(name: string): Promise<void>;
  list(): Promise<{ name: string; pid: number }[]>;
  /** Where this one's stdout and stderr go. */
  logOf(spec: Pick<DaemonSpec, "name" | "logFile">): string;
  /** Names of those that should run and do not: dead, or just being started. */
  missing(): Promise<string[]>;
};

/** An account that exists in the cell alone: passwd, group and shadow there are copies of ours. */
export type CellAccount = {
  readonly name: string;
  readonly uid: number;
  readonly home: string;
  readonly shell: string;
};

export type Hypervisor = AsyncDisposable & {
  readonly accelerator: "kvm" | "tcg";
  /** Why this accelerator, a sentence for people. */
  readonly acceleratorReason: string;
  /** From outside of the cell; inside `qemu:///system` does. */
  readonly libvirtUri: string;
  readonly netns: string;
  readonly daemons: Daemons;
  /** Sets exactly these accounts, each in group `group` (gid given), beside the machine's own. */
  setAccounts(
    group: { readonly name: string; readonly gid: number },
    accounts: readonly CellAccount[],
  ): Promise<void>;
  readonly domains: Domains;
  readonly disks: Disks;
  readonly bridges: Bridges;
  readonly portRules: PortRules;
  readonly testNetwork: TestNetwork;
  /** Daemons by name with their pids as the machine sees them. */
  processes(): Promise<{ name: string; pid: number }[]>;
  /** Daemons that are not there, and what of the host could not be mended: sentences. */
  problems(): Promise<readonly string[]>;
  /** Looks at daemons, test network and veth; plans and mends (H-1.4's first parts). */
  plan(): Promise<PlannedAction[]>;
  mend(): Promise<PlannedAction[]>;
  /** Calls back when a daemon was found dead and was started again (H-1.12). */
  onRestart(callback: (daemon: string) => void): void;
};
