/**
 * Commands that people are told to type begin with the program as they called it themselves:
 * `./rackyard` in a clone, `rackyard` where it is in PATH. Texts say `rackyard`; the last edge
 * before a person's eyes puts the name they know. JSON is for programs and stays as it is.
 */

/** @param called `RACKYARD_CALLED`, as `./rackyard` sets it; undefined changes nothing */
export function asCalled(text: string, called: string | undefined): string {
  if (called === undefined || called === "rackyard") return text;
  return text.replace(/(?<![\w./-])rackyard (?=[a-z-])/g, `${called} `);
}
