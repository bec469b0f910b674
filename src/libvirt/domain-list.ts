/**
 * What libvirt says about its domains: names, states, and our mark on each (H-1.10, H-3.1).
 * The list is the truth, events are hints (H-4.5). Domains without our mark are not ours.
 */
import { DOMParser } from "@xmldom/xmldom";
import { isRackyardError } from "../base/errors.ts";
import { MARK_NAMESPACE } from "./domain-xml.ts";
import type { Virsh } from "./virsh-pool.ts";

export type ListedDomain = {
  readonly name: string;
  readonly uuid: string;
  readonly power: "on" | "off" | "paused" | "unknown";
  /** Attributes of the mark, `plan` among them; null: not ours. */
  readonly mark: Readonly<Record<string, string>> | null;
};

/** All domains of this libvirt, running or not. */
export async function listDomains(virsh: Virsh): Promise<ListedDomain[]> {
  const [names, states] = [
    parseNames(await virsh.query("list", "--all", "--uuid", "--name")),
    parseStates(await virsh.query("domstats", "--state")),
  ];
  const listed = await Promise.all(
    names.map(async ({ uuid, name }): Promise<ListedDomain | undefined> => {
      const mark = await markOf(virsh, uuid);
      if (mark === undefined) return undefined;
      return { name, uuid, power: states.get(name) ?? "unknown", mark };
    }),
  );
  return listed.filter((each) => each !== undefined);
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
