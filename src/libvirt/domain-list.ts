/**
 * What libvirt says about its domains: names, states, and our mark on each (H-1.10, H-3.1).
 * The list is the truth, events are hints (H-4.5). Domains without our mark are not ours.
 */
import { DOMParser } from "@xmldom/xmldom";
import { isRackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { MARK_NAMESPACE } from "./domain-xml.ts";
import type { Virsh } from "./virsh-pool.ts";

export type ListedDomain = {
  readonly name: string;
  readonly uuid: string;
  readonly power: "on" | "off" | "paused" | "unknown";
  /** Attributes of the mark, `plan` among them; null: not ours. */
  readonly mark: Readonly<Record<string, string>> | null;
};

export type DomainList = {
  /** All domains of this libvirt, running or not: as they are after the call. */
  read(): Promise<readonly ListedDomain[]>;
  /** A definition was changed, or anything may have been: marks are read again. */
  forget(uuid?: string): void;
};

/**
 * One reader for all who look: a look costs two commands, however many domains there are. Marks
 * change with definitions alone, which are ours; they are kept until `forget`, and read again
 * every `limits.marksKeepMs` in case somebody edited one. Looks that come while one is under way
 * share the next: what a caller has changed is in the list it gets.
 */
export function openDomainList(virsh: Virsh, monoMs: () => number): DomainList {
  const marks = new Map<string, ListedDomain["mark"]>();
  let freshUntilMs = 0;
  let running: Promise<unknown> | undefined;
  let next: Promise<readonly ListedDomain[]> | undefined;

  async function read(): Promise<readonly ListedDomain[]> {
    if (monoMs() >= freshUntilMs) {
      marks.clear();
      freshUntilMs = monoMs() + limits.marksKeepMs;
    }
    const names = parseNames(await virsh.query("list", "--all", "--uuid", "--name"));
    const states = parseStates(await virsh.query("domstats", "--state"));
    const listed: ListedDomain[] = [];
    for (const { uuid, name } of names) {
      const known = marks.get(uuid);
      const mark = known === undefined ? await markOf(virsh, uuid) : known;
      if (mark === undefined) continue;
      marks.set(uuid, mark);
      listed.push({ name, uuid, power: states.get(name) ?? "unknown", mark });
    }
    const there = new Set(names.map(({ uuid }) => uuid));
    for (const uuid of marks.keys()) if (!there.has(uuid)) marks.delete(uuid);
    return listed;
  }

  function begin(): Promise<readonly ListedDomain[]> {
    next = undefined;
    const mine = read();
    running = mine.catch(() => undefined).then(() => void (running = undefined));
    return mine;
  }

  return {
    read: () => (running ? (next ??= running.then(begin)) : begin()),
    forget(uuid) {
      if (uuid === undefined) marks.clear();
      else marks.delete(uuid);
    },
  };
}

/** The mark of a domain; null: it has none; undefined: it is gone meanwhile. */
async function markOf(
  virsh: Virsh,
  uuid: string,
): Promise<Record<string, string> | null | undefined> {
  try {
    return parseMark(await virsh.query("metadata", uuid, MARK_NAMESPACE));
  } catch (error) {
    if (isRackyardError(error, "not-found")) return undefined;
    if (isRackyardError(error, "command-failed") && /metadata not found/.test(error.message)) {
      return null;
    }
    throw error;
  }
}

/** `list --uuid --name`: a line each, UUID, blank, name. */
export function parseNames(text: string): { uuid: string; name: string }[] {
  return [...text.matchAll(/^([0-9a-f-]{36}) +(.*\S) *$/gm)].map(([, uuid, name]) => ({
    uuid: uuid!,
    name: name!,
  }));
}

/** `domstats --state`: numbers of virDomainState. */
export function parseStates(text: string): Map<string, ListedDomain["power"]> {
  const states = new Map<string, ListedDomain["power"]>();
  for (const [, name, state] of text.matchAll(
    /^Domain: '(.*)'\n(?: {2}.*\n)*? {2}state\.state=(\d+)$/gm,
  )) {
    states.set(name!, powers[Number(state)] ?? "unknown");
  }
  return states;
}

/** virDomainState 0–7: nostate, running, blocked, paused, shutdown, shutoff, crashed, suspended. */
const powers = ["unknown", "on", "on", "paused", "on", "off", "off", "paused"] as const;

/** Attributes of the metadata element, without its namespace. */
export function parseMark(xml: string): Record<string, string> {
  const root = new DOMParser().parseFromString(xml.trim(), "text/xml").documentElement;
  const mark: Record<string, string> = {};
  for (const attribute of root?.attributes ?? []) {
    if (!attribute.name.startsWith("xmlns")) mark[attribute.name] = attribute.value;
  }
  return mark;
}
