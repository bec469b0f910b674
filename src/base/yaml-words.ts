/**
 * Plain words that are one value in YAML 1.1, which Zuul reads, and another in YAML 1.2, which we
 * read. Who writes one cannot know which is meant. Pure.
 */

const readings: readonly (readonly [RegExp, string, string])[] = [
  [/^(?:yes|Yes|YES|on|On|ON)$/, "true in YAML 1.1, text in 1.2", "true"],
  [/^(?:no|No|NO|off|Off|OFF)$/, "false in YAML 1.1, text in 1.2", "false"],
  [/^[-+]?0[0-7_]+$/, "octal in YAML 1.1, decimal in 1.2", "the decimal number"],
  [/^[-+]?0o[0-7]+$/, "text in YAML 1.1, octal in 1.2", "the decimal number"],
  [/^[-+]?0b[01_]+$/, "a number in YAML 1.1, text in 1.2", "the decimal number"],
  [/^[-+]?0x[0-9a-fA-F]*_[0-9a-fA-F_]*$/, "a number in YAML 1.1, text in 1.2", "it without _"],
  [/^[-+]?[0-9]+_[0-9_]*(?:\.[0-9_]*)?$/, "a number in YAML 1.1, text in 1.2", "it without _"],
  [/^[-+]?[0-9]+[eE][-+]?[0-9]+$/, "text in YAML 1.1, a number in 1.2", "it with a point"],
  [/^[-+]?[0-9]+\.[0-9]*[eE][0-9]+$/, "text in YAML 1.1, a number in 1.2", "it with e+"],
  [/^[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$/, "base 60 in YAML 1.1, text in 1.2", ""],
  [/^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?$/, "a date in YAML 1.1, text in 1.2", ""],
];

/** What is wrong with a plain word, and what to write instead; undefined: nothing. */
export function ambiguousWord(
  source: string,
): { readonly detail: string; readonly remedy: string } | undefined {
  const found = readings.find(([form]) => form.test(source));
  if (!found) return undefined;
  const [, reading, instead] = found;
  return {
    detail: `${source} is ${reading}`,
    remedy: `put it in quotes if it is text${instead === "" ? "" : `, or write ${instead}`}`,
  };
}
