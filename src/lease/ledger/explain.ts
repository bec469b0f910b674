/**
 * Why a request waits, in words that a person can act on (lease.md §4): which TEs fit, who has
 * them and until when, what keeps them, who is ahead. The first entry is the reason that
 * matters most.
 */
import { sha256Hex } from "../../base/ids.ts";
import type { Why } from "../../model/lease.ts";
import type { Lease, Ledger, TestenvRecord } from "./ledger-state.ts";
import { placeInQueue } from "./ledger-index.ts";
import { leaseOn } from "./ledger-state.ts";
import { askedShape, avoidance, fits, leastAvoidance, obstacle, shapeOf } from "./matching.ts";
import { isoMs } from "./lease-life.ts";

/** Entries at most; the rest is counted in one. */
const ENTRIES = 20;

/** Answers about one ledger, for however many ask: what many share is worked out once. */
export type Explainer = {
  why(lease: Lease): Why[];
  /**
   * Equal while place and reasons of a waiting lease are: whoever shows them looks again only
   * where it changed. (Who is ahead counts by number, not by name.)
   */
  signature(lease: Lease): string;
};

/** Place in the queue, from 1; undefined when it does not wait. */
export function placeOf(ledger: Ledger, lease: Lease): number | undefined {
  if (lease.state.kind !== "waiting") return undefined;
  return placeInQueue(ledger.index.queue, lease.order) + 1;
}

export function whyWaiting(ledger: Ledger, lease: Lease): Why[] {
  return openExplainer(ledger).why(lease);
}

export function openExplainer(ledger: Ledger): Explainer {
  const shapes = shapesOf(ledger);
  let takeable: Uint32Array | undefined;

  /** How many of those before this place can be taken. */
  function takeableBefore(place: number): number {
    takeable ??= Uint32Array.from(countTakeable(ledger.index.queue));
    return takeable[place] ?? 0;
  }

  return {
    why(lease) {
      if (lease.state.kind !== "waiting") return [];
      const fitting = shapes.fitting(lease);
      const why = [
        ...notTakeable(lease),
        ...onlyOffline(ledger, fitting),
        ...fitting.slice(0, ENTRIES).map((te) => whyNot(ledger, te, lease)),
        ...ahead(ledger, lease, (other) => shapes.meet(lease, other)),
      ];
      const count = why.length + Math.max(0, fitting.length - ENTRIES);
      if (count <= ENTRIES) return why;
      const more = count - ENTRIES + 1;
      return [
        ...why.slice(0, ENTRIES - 1),
        { code: "more", text: `and ${more} more reasons of this kind` },
      ];
    },
    signature(lease) {
      const place = placeInQueue(ledger.index.queue, lease.order);
      const before = takeableBefore(place);
      return `${place} ${before} ${lease.takeable} ${lease.avoidSinceMs} ${shapes.state(lease)}`;
    },
  };
}

function* countTakeable(queue: readonly Lease[]): Generator<number> {
  let count = 0;
  for (const lease of queue) {
    yield count;
    if (lease.takeable) count++;
  }
}

type Group = { readonly at: number; readonly te: TestenvRecord }[];

/** The registered TEs by shape, and which of them fit what is asked for. */
function shapesOf(ledger: Ledger) {
  const groups = new Map<string, Group>();
  let at = 0;
  for (const te of ledger.testenvs.values()) {
    if (te.life.kind === "removed") continue;
    const shape = shapeOf(te, ledger.hosts.get(te.hostId));
    const same = groups.get(shape);
    if (same) same.push({ at: at++, te });
    else groups.set(shape, [{ at: at++, te }]);
  }
  const names = new Map<string, readonly string[]>();
  const lists = new Map<string, readonly TestenvRecord[]>();
  const states = new Map<string, string>();
  const meetings = new Map<string, boolean>();

  /** Shapes that fit, by name. */
  function named(lease: Lease): readonly string[] {
    const asked = askedShape(lease);
    const known = names.get(asked);
    if (known) return known;
    const made = [...groups]
      .filter(([, [first]]) => first !== undefined && fits(ledger, first.te, lease))
      .map(([shape]) => shape);
    names.set(asked, made);
    return made;
  }

  function stateOf(shape: string): string {
    const known = states.get(shape);
    if (known !== undefined) return known;
    const made = sha256Hex(
      groups
        .get(shape)!
        .map(({ te }) => shownOf(ledger, te))
        .join("\n"),
    );
    states.set(shape, made);
    return made;
  }

  return {
    /** In the order in which they were registered. */
    fitting(lease: Lease): readonly TestenvRecord[] {
      const asked = askedShape(lease);
      const known = lists.get(asked);
      if (known) return known;
      const made = named(lease)
        .flatMap((shape) => groups.get(shape)!)
        .sort((a, b) => a.at - b.at)
        .map(({ te }) => te);
      lists.set(asked, made);
      return made;
    },
    /** Whether one TE would do for both. */
    meet(lease: Lease, other: Lease): boolean {
      const key = `${askedShape(lease)}\n${askedShape(other)}`;
      const known = meetings.get(key);
      if (known !== undefined) return known;
      const theirs = new Set(named(other));
      const made = named(lease).some((shape) => theirs.has(shape));
      meetings.set(key, made);
      return made;
    },
    state: (lease: Lease): string => named(lease).map(stateOf).join(" "),
  };
}

/** What `whyNot` looks at in a TE. */
function shownOf(ledger: Ledger, te: TestenvRecord): string {
  const other = leaseOn(ledger, te.id);
  const until = other?.state.kind === "active" ? other.state.expiresAt : "";
  const held = other ? `${other.id} ${other.state.kind} ${until}` : "";
  return `${te.id} ${obstacle(ledger, te)?.text ?? ""} ${held}`;
}

function notTakeable(lease: Lease): Why[] {
  if (lease.takeable) return [];
  const text = "no node is ready for it yet: it keeps its place and is passed over until then";
  return [{ code: "not-takeable", text }];
}

function onlyOffline(ledger: Ledger, fitting: readonly TestenvRecord[]): Why[] {
  if (fitting.length === 0) {
    const text = "no test environment that fits is registered any more";
    return [{ code: "none-fits", text }];
  }
  const away = fitting.every((te) => obstacle(ledger, te)?.code === "te-offline");
  if (!away) return [];
  const text = "every test environment that fits is offline: it starts when a host comes back";
  return [{ code: "only-offline", text }];
}

function whyNot(ledger: Ledger, te: TestenvRecord, lease: Lease): Why {
  const blocked = obstacle(ledger, te);
  if (blocked) return { ...blocked, te: te.id };
  const other = leaseOn(ledger, te.id);
  if (other) return heldBy(te, other);
  if (avoidance(te, lease) > leastAvoidance(ledger, lease)) {
    const untilAt = isoMs(lease.avoidSinceMs + ledger.policy.avoidMs);
    const text =
      `${te.id} is free, but to be avoided: it is taken all the same from ` +
      `${timeText(untilAt)} on`;
    return { code: "te-avoided", text, te: te.id, untilAt };
  }
  return { code: "te-free", text: `${te.id} is free`, te: te.id };
}

function heldBy(te: TestenvRecord, other: Lease): Why {
  const holder = other.request.holder.name;
  switch (other.state.kind) {
    case "preparing":
      return {
        code: "te-preparing",
        text: `${te.id} is being prepared for ${holder}`,
        te: te.id,
        holder,
      };
    case "active": {
      const untilAt = other.state.expiresAt;
      const text = `${te.id} is leased by ${holder} until ${timeText(untilAt)} at the latest`;
      return { code: "te-leased", text, te: te.id, holder, untilAt };
    }
    default:
      return {
        code: "te-ending",
        text: `${te.id} is being given back by ${holder}`,
        te: te.id,
        holder,
      };
  }
}

/** For sentences; `untilAt` beside it is exact. */
const timeText = (at: string): string => `${at.slice(0, 10)} ${at.slice(11, 19)} UTC`;

/** Requests before this one that want one of the same TEs and can take it. */
function ahead(ledger: Ledger, lease: Lease, meets: (other: Lease) => boolean): Why[] {
  const { queue } = ledger.index;
  const names: string[] = [];
  let count = 0;
  const place = placeInQueue(queue, lease.order);
  for (let at = 0; at < place; at++) {
    const other = queue[at]!;
    if (!other.takeable || !meets(other)) continue;
    count++;
    if (names.length < 5) names.push(other.request.holder.name);
  }
  if (count === 0) return [];
  const rest = count > names.length ? ` and ${count - names.length} more` : "";
  const asked = count === 1 ? "1 request that came" : `${count} requests that came`;
  return [
    { code: "ahead", text: `${asked} earlier: ${names.join(", ")}${rest}`, holder: names[0]! },
  ];
}
