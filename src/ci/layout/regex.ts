/**
 * Regular expressions as Zuul's users write them (Python's `re`), made JavaScript's: inline flags
 * at the start `(?ims)`, named groups `(?P<name>…)` and `(?P=name)`, anchors `\A` and `\Z`.
 * What only Python knows is a fault, never a silent difference.
 */

export type Translated =
  | { readonly regex: RegExp; readonly fault?: undefined }
  | { readonly regex?: undefined; readonly fault: string };

export function translateRegex(source: string): Translated {
  const inline = /^\(\?([a-zA-Z]+)\)/.exec(source);
  const letters = inline?.[1] ?? "";
  const unknown = Array.from(letters).find((letter) => !"imsu".includes(letter));
  if (unknown !== undefined) return { fault: `the flag (?${unknown}) is not known here` };
  // Python's u (Unicode) is its default and changes nothing.
  const flags = Array.from(new Set(letters.replaceAll("u", ""))).join("");
  const body = source
    .slice(inline?.[0].length ?? 0)
    .replaceAll(/\(\?P<(\w+)>/g, "(?<$1>")
    .replaceAll(/\(\?P=(\w+)\)/g, "\\k<$1>")
    .replaceAll(/(?<!\\)((?:\\\\)*)\\A/g, "$1(?<![\\s\\S])")
    .replaceAll(/(?<!\\)((?:\\\\)*)\\Z/g, "$1(?![\\s\\S])");
  try {
    return { regex: new RegExp(body, flags) };
  } catch (error) {
    return { fault: (error as Error).message };
  }
}
