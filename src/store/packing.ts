/**
 * Bodies as they are kept: large parts are taken out and stored once, by SHA-256, so that a step
 * which repeats what was frozen (all branches of all repositories) costs a digest. Parts are
 * taken out from the leaves up: where one repository moved, its neighbours' parts stay. Long
 * lists and maps are cut where their content says (a key's or element's hash), so that one more
 * entry does not move every cut. Pure.
 *
 * A body without parts is plain JSON. One with parts begins with `packed:`; in it an object with
 * one of these keys alone stands for a value: `$part` (digest of the value), `$list`, `$map`
 * (pieces to be joined), `$plain` (an object whose own keys begin with `$`).
 */
import { createHash } from "node:crypto";

/** Bodies below are kept as they are: most lives' are. */
const WHOLE_CHARS = 1_536;
/** A value at least so long becomes a part; a reference to one takes 56 characters. */
const PART_CHARS = 160;
/** A list or map at least so long is cut into pieces. */
const CUT_CHARS = 3_072;
/** Pieces have so many entries on average, and at most four times as many. */
const PIECE_ENTRIES = 16;

const MARK = "packed:";

export type Part = {
  readonly digest: string;
  /** Packed JSON, without the mark. */
  readonly text: string;
  /** Parts that the text names. */
  readonly parts: readonly Part[];
};

export type Packed = { readonly text: string; readonly parts: readonly Part[] };

export function pack(body: object): Packed {
  const plain = JSON.stringify(body);
  if (plain.length < WHOLE_CHARS) return { text: plain, parts: [] };
  // Read back, so that what is packed is what JSON says: no undefined, no toJSON.
  const { text, parts } = packValue(JSON.parse(plain) as unknown, true);
  return parts.length === 0 ? { text: plain, parts } : { text: MARK + text, parts };
}

/** Digests that a kept text names, each as often as it stands there. */
export function digestsIn(text: string): string[] {
  if (!text.startsWith(MARK)) return [];
  return digestsOfPart(text.slice(MARK.length));
}

export function digestsOfPart(text: string): string[] {
  const found: string[] = [];
  collect(JSON.parse(text) as unknown, found);
  return found;
}

export type Unpacked =
  | { readonly body: object; readonly missing?: undefined }
  /** Digests of parts to be had first. */
  | { readonly body?: undefined; readonly missing: readonly string[] };

/**
 * The body again; `partOf` gives a part's JSON, parsed. Values at the paths `without`
 * (`facts.repos`) are left out where they are parts: nobody reads them to leave them out.
 */
export function unpack(
  text: string,
  partOf: (digest: string) => unknown,
  without: readonly string[] = [],
): Unpacked {
  if (!text.startsWith(MARK)) return { body: JSON.parse(text) as object };
  const missing: string[] = [];
  const reading = { partOf, without, missing };
  const body = restore(JSON.parse(text.slice(MARK.length)) as unknown, "", reading) as object;
  return missing.length === 0 ? { body } : { missing };
}

function packValue(value: unknown, isWhole = false): Packed {
  if (typeof value === "string") return asPart({ text: JSON.stringify(value), parts: [] });
  if (typeof value !== "object" || value === null) {
    return { text: JSON.stringify(value), parts: [] };
  }
  const made = Array.isArray(value) ? packList(value) : packMap(value as Record<string, unknown>);
  return isWhole ? made : asPart(made);
}

function packList(values: readonly unknown[]): Packed {
  const entries = values.map((value) => {
    const packed = packValue(value);
    return { ...packed, cutBy: packed.text };
  });
  return cut(entries, "$list", (inner) => `[${inner}]`);
}

function packMap(value: Record<string, unknown>): Packed {
  const keys = Object.keys(value);
  const entries = keys.map((key) => {
    const packed = packValue(value[key]);
    return { text: `${JSON.stringify(key)}:${packed.text}`, parts: packed.parts, cutBy: key };
  });
  if (keys.some((key) => key.startsWith("$"))) {
    return join(entries, (inner) => `{"$plain":{${inner}}}`);
  }
  return cut(entries, "$map", (inner) => `{${inner}}`);
}

type Entry = Packed & { readonly cutBy: string };

function cut(
  entries: readonly Entry[],
  name: "$list" | "$map",
  wrap: (inner: string) => string,
): Packed {
  const whole = join(entries, wrap);
  if (whole.text.length < CUT_CHARS || entries.length < 2 * PIECE_ENTRIES) return whole;
  const pieces: Part[] = [];
  let run: Entry[] = [];
  for (const entry of entries) {
    run.push(entry);
    if (run.length < 4 * PIECE_ENTRIES && !endsPiece(entry.cutBy)) continue;
    pieces.push(partOf(join(run, wrap)));
    run = [];
  }
  if (run.length > 0) pieces.push(partOf(join(run, wrap)));
  // The pieces themselves may be many: they are a list like any other.
  const named = pieces.map((part) => ({ ...reference(part), cutBy: part.digest }));
  const names = cut(named, "$list", (inner) => `[${inner}]`);
  return { text: `{"${name}":${names.text}}`, parts: names.parts };
}

function reference(part: Part): Packed {
  return { text: `{"$part":"${part.digest}"}`, parts: [part] };
}

function endsPiece(text: string): boolean {
  return createHash("sha256").update(text).digest()[0]! % PIECE_ENTRIES === 0;
}

function join(entries: readonly Packed[], wrap: (inner: string) => string): Packed {
  return {
    text: wrap(entries.map((entry) => entry.text).join(",")),
    parts: entries.flatMap((entry) => entry.parts),
  };
}

function asPart(packed: Packed): Packed {
  if (packed.text.length < PART_CHARS) return packed;
  return reference(partOf(packed));
}

function partOf({ text, parts }: Packed): Part {
  return { digest: createHash("sha256").update(text).digest("base64url"), text, parts };
}

function collect(value: unknown, found: string[]): void {
  if (typeof value !== "object" || value === null) return;
  const special = specialOf(value);
  if (special?.name === "$part") found.push(special.of as string);
  else for (const one of Object.values(special ? [special.of] : value)) collect(one, found);
}

type Reading = {
  readonly partOf: (digest: string) => unknown;
  readonly without: readonly string[];
  readonly missing: string[];
};

function restore(value: unknown, path: string, reading: Reading): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((one) => restore(one, path, reading));
  const special = specialOf(value);
  if (!special) return restoreEntries(value, path, reading);
  const { name, of } = special;
  if (name === "$plain") return restoreEntries(of as object, path, reading);
  if (name === "$part") return restorePart(of as string, path, reading);
  const pieces = piecesOf(of, path, reading);
  if (name === "$list") return pieces.flatMap((piece) => piece as unknown[]);
  return Object.fromEntries(pieces.flatMap((piece) => Object.entries(piece as object)));
}

function restorePart(digest: string, path: string, reading: Reading): unknown {
  const part = reading.partOf(digest);
  if (part !== undefined) return restore(part, path, reading);
  reading.missing.push(digest);
  return undefined;
}

/** Those that are there already. */
function piecesOf(value: unknown, path: string, reading: Reading): unknown[] {
  const pieces = restore(value, path, reading) as unknown[] | undefined;
  return (pieces ?? []).filter((piece) => piece !== undefined);
}

/** `fromEntries` defines: a key `__proto__` that somebody wrote stays a key. */
function restoreEntries(value: object, path: string, reading: Reading): object {
  const entries = Object.entries(value).flatMap(([key, of]) => {
    const at = path === "" ? key : `${path}.${key}`;
    if (reading.without.includes(at) && isReference(of)) return [];
    return [[key, restore(of, at, reading)] as const];
  });
  return Object.fromEntries(entries);
}

function isReference(value: unknown): boolean {
  const name = typeof value === "object" && value !== null && specialOf(value)?.name;
  return name === "$part" || name === "$list" || name === "$map";
}

function specialOf(
  value: object,
): { readonly name: "$part" | "$list" | "$map" | "$plain"; readonly of: unknown } | undefined {
  for (const name of ["$part", "$list", "$map", "$plain"] as const) {
    if (Object.hasOwn(value, name)) return { name, of: (value as Record<string, unknown>)[name] };
  }
  return undefined;
}
