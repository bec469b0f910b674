/**
 * Domains by libvirt (te-host.md §§3, 4): our specs become its XML, its lists and events become
 * ours. A start gives the machine's tap a new port number, so that port rules are refreshed
 * before the start is told.
 */
import { createHash } from "node:crypto";
import { isRackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { domainDigest, domainXml } from "../libvirt/domain-xml.ts";
import type { DomainDescription, Flavour } from "../libvirt/domain-xml.ts";
import { differences, readDefinition } from "../libvirt/domain-look.ts";
import { openDomainList } from "../libvirt/domain-list.ts";
import type { DomainList, ListedDomain } from "../libvirt/domain-list.ts";
import type { LibvirtEvent } from "../libvirt/event-codec.ts";
import { watchEvents } from "../libvirt/event-loop.ts";
import type { Virsh } from "../libvirt/virsh-pool.ts";
import type {
  DomainEvent,
  DomainMark,
  Domains,
  DomainSpec,
  DomainState,
} from "./hypervisor-port.ts";
import { giveToQemu } from "./disks.ts";
import { guestPath } from "./guest-files.ts";
import { processesWith } from "./process-scan.ts";

export type DomainsOptions = {
  readonly virsh: Virsh;
  readonly uri: string;
  readonly flavour: Flavour;
  readonly hostId: string;
  /** The state directory: QEMU reaches its folders by other paths. */
  readonly state: string;
  /** After each start: taps are there, their port numbers known. */
  readonly onStarted: () => Promise<void>;
};

export function openDomains(options: DomainsOptions): Domains {
  const { virsh, flavour } = options;
  const tested = flavour === "test";
  const ending = new Map<string, number>();
  const list = openDomainList(virsh, () => performance.now());
  let last: { readonly domains: readonly DomainState[]; readonly atMs: number } | undefined;
  const starting = (uuid: string): void => {
    const soon = performance.now() + limits.ownEndAfterStartMs;
    if ((ending.get(uuid) ?? 0) > soon) ending.set(uuid, soon);
  };

  const destroy = async (uuid: string): Promise<"destroyed" | "was-off"> => {
    ending.set(uuid, performance.now() + limits.ownEndMs);
    return unless<"destroyed" | "was-off">("conflict", "was-off", async () => {
      await virsh.change("destroy", uuid);
      return "destroyed";
    });
  };
  return {
    async list() {
      const domains = (await list.read()).map((each) => stateOf(each, options.hostId));
      last = { domains, atMs: performance.now() };
      return domains;
    },
    lastList: () => last && { domains: last.domains, ageMs: performance.now() - last.atMs },
    async look(spec) {
      const xml = await virsh.query("dumpxml", spec.uuid, "--inactive");
      const found = readDefinition(xml);
      const unlike = differences(found, readDefinition(domainXml(describe(spec, options))));
      const definition = createHash("sha256").update(xml).digest("hex");
      const { boot, media, nvram } = found;
      return { definition, boot, media, nvram, unlike };
    },
    digest: (spec) => domainDigest(describe(spec, options)),
    async define(spec) {
      for (const { path } of tested ? [] : spec.disks) await giveToQemu(path);
      await virsh.changeByXml(["define"], domainXml(describe(spec, options)));
      list.forget(spec.uuid);
    },
    async undefine(uuid) {
      await unless("not-found", undefined, async () => {
        await destroy(uuid);
        await virsh.change("undefine", uuid, ...(tested ? [] : everything));
        list.forget(uuid);
      });
    },
    async start(uuid) {
      starting(uuid);
      return unless<"started" | "was-on">("conflict", "was-on", async () => {
        await virsh.change("start", uuid);
        await options.onStarted();
        return "started";
      });
    },
    async startOnce(spec, first) {
      starting(spec.uuid);
      await virsh.changeByXml(["create"], domainXml(describe(spec, options), { first }));
      list.forget(spec.uuid);
      await options.onStarted();
    },
    destroy,
    async shutdown(uuid) {
      await virsh.change("shutdown", uuid, ...(tested ? [] : ["--mode", "acpi"]));
    },
    async reset(uuid) {
      await virsh.change("reset", uuid);
    },
    async endOnReboot(uuid) {
      await virsh.change("set-lifecycle-action", uuid, "reboot", "destroy", "--live");
    },
    watch: (onEvent, signal) => watch(options, { ending, list }, onEvent, signal),
    async processesOf(uuid) {
      return processesWith(/^qemu-system-/, uuid);
    },
  };
}

const everything = [
  "--managed-save",
  "--snapshots-metadata",
  "--checkpoints-metadata",
  "--nvram",
] as const;

async function unless<T>(
  code: "conflict" | "not-found",
  then: T,
  act: () => Promise<T>,
): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (isRackyardError(error, code)) return then;
    throw error;
  }
}

function describe(
  spec: DomainSpec,
  { flavour, state }: Pick<DomainsOptions, "flavour" | "state">,
): DomainDescription {
  const { mark, ...rest } = spec;
  const seen = rest.disks.map((disk) => ({ ...disk, path: guestPath(state, disk.path) }));
  return { ...rest, disks: seen, flavour, mark: markAttributes(mark) };
}

function markAttributes(mark: DomainMark): Record<string, string> {
  if (mark.kind === "node") return { host: mark.host, node: mark.node };
  const machine = mark.machine === "seed" ? "seed" : `n${mark.machine}`;
  return { host: mark.host, te: String(mark.te), machine };
}

function parseMark(attributes: Readonly<Record<string, string>>): DomainMark | null {
  const { host, te, machine, node } = attributes;
  if (host === undefined) return null;
  if (node !== undefined) return { kind: "node", host, node };
  const index = /^n(\d{1,2})$/.exec(machine ?? "")?.[1];
  if (!/^\d{1,3}$/.test(te ?? "") || (index === undefined && machine !== "seed")) return null;
  return { kind: "machine", host, te: Number(te), machine: index ? Number(index) : "seed" };
}

function stateOf(listed: ListedDomain, hostId: string): DomainState {
  const mark = listed.mark && parseMark(listed.mark);
  const ours = mark?.host === hostId ? mark : null;
  const { name, uuid, power } = listed;
  return { name, uuid, power, mark: ours, plan: ours ? (listed.mark?.["plan"] ?? null) : null };
}

/** Events name domains; the UUIDs of names are in the list, read anew when one is unknown. */
async function watch(
  options: DomainsOptions,
  { ending, list }: { ending: Map<string, number>; list: DomainList },
  onEvent: (event: DomainEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  const uuids = new Map<string, string>();
  let last: Promise<void> = Promise.resolve();
  const relay = async (event: LibvirtEvent, heardMs: number): Promise<void> => {
    if (!uuids.has(event.name)) {
      for (const { name, uuid } of await list.read()) uuids.set(name, uuid);
    }
    const uuid = uuids.get(event.name);
    const what = event.what === "host-reset" ? "guest-reset" : event.what;
    if (uuid === undefined) return;
    // libvirt itself ends a QEMU whose guest is done: that signal says nothing new.
    if (what === "guest-reset" || what === "guest-shutdown")
      ending.set(uuid, heardMs + limits.ownEndMs);
    const ours = what === "host-killed" && heardMs < (ending.get(uuid) ?? 0);
    if (!ours && !signal.aborted) onEvent({ uuid, name: event.name, what, detail: event.detail });
  };
  await watchEvents(
    options.uri,
    {
      onEvent(event) {
        const heardMs = performance.now();
        last = last.then(() => relay(event, heardMs)).catch(() => undefined);
      },
      onGap() {
        uuids.clear();
        list.forget(); // libvirtd was started again, or its domains were changed unseen
      },
    },
    signal,
  );
  await last;
}
