/**
 * Names that people choose and that become paths, URLs and git's arguments: one rule for the layout
 * that defines them and for the repositories that have them. Pure.
 */

const part = /^[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}$/;
const mostParts = 20;
const mostCharacters = 200;

/** Why it is no such name, as the end of a sentence about it; undefined: it is one. */
export function pathNameFault(name: string): string | undefined {
  if (name.length > mostCharacters) return `must have at most ${mostCharacters} characters`;
  const parts = name.split("/");
  if (parts.length > mostParts) return `must have at most ${mostParts} parts`;
  const wrong = parts.find((one) => !part.test(one));
  if (wrong !== undefined) {
    const end = wrong === "" ? "none of them empty" : "each begins with a letter, a digit or _";
    return `must be made of letters, digits and . _ + -, with / between parts, ${end}`;
  }
  if (name.includes("..")) return "must not have two dots side by side: it becomes a path";
  const reserved = parts.find((one) => /\.(?:git|lock)$/i.test(one));
  if (reserved !== undefined) return `must not have a part that ends in .git or .lock: git's own`;
  return undefined;
}
