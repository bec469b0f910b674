/**
 * Ids as people shorten them: the first digits of a life's id, found by a range of the rows' key,
 * however many rows there are.
 */
import { fail } from "../base/errors.ts";
import { isUuid, shortId } from "../base/ids.ts";
import type { LifeKind, Store } from "./store.ts";

/** Candidates that an error names. */
const NAMED = 5;

/**
 * The only id of a life that begins as `text` does. Throws `not-found`, or `conflict` with the
 * candidates where several begin so.
 */
export async function wholeId<Body extends object>(
  store: Pick<Store, "idsBeginning">,
  kind: LifeKind<Body>,
  text: string,
): Promise<string> {
  if (isUuid(text)) return text;
  const found = await store.idsBeginning(kind, text, NAMED + 1);
  const [id, ...others] = found;
  if (id === undefined) return fail("not-found", `there is no ${kind.life} ${text}`);
  if (others.length === 0) return id;
  // Eight digits tell builds apart as a rule; where they do not, the candidates are named whole.
  const short = new Set(found.map(shortId)).size === found.length;
  const names = found.slice(0, NAMED).map((one) => (short ? shortId(one) : one));
  const more = found.length > NAMED ? ", …" : "";
  return fail("conflict", `several ${kind.life}s begin with ${text}: ${names.join(", ")}${more}`, {
    remedy: "give more digits",
  });
}
