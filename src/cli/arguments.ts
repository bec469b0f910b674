/**
 * Arguments and options as commands read them: text in, checked value out; what is wrong is a
 * fault of usage. Short forms of ids are completed by asking the server.
 */
import { fail } from "../base/errors.ts";
import { isUuid } from "../base/ids.ts";

type Options = Readonly<Record<string, unknown>>;

export function textOption(options: Options, name: string): string | undefined {
  const value = options[name];
  return typeof value === "string" ? value : undefined;
}

export function flagOption(options: Options, name: string): boolean {
  return options[name] === true;
}

/** A change's number, also as `4,2` or as its address. */
export function numberOf(text: string | undefined): number {
  const digits = /^(?:https?:\/\/.*\/changes\/)?([1-9][0-9]{0,8})(?:,[0-9]+)?$/.exec(text ?? "");
  if (!digits) return fail("usage", `${text ?? "nothing"} is no change: give its number`);
  return Number(digits[1]);
}

/** A whole number from 1 on. */
export function countOf(text: string, what: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) return fail("usage", `${what}: ${text} is no number`);
  return Number(text);
}

/** `90`, `90s`, `30m`, `2h`, `7d` in seconds. */
export function secondsOf(text: string, what: string): number {
  const match = /^([0-9]{1,9})(s|m|h|d)?$/.exec(text);
  if (!match) return fail("usage", `${what}: ${text} is no time; write 90s, 30m, 2h or 7d`);
  const unit = { s: 1, m: 60, h: 3_600, d: 86_400 }[match[2] ?? "s"] ?? 1;
  return Number(match[1]) * unit;
}

/**
 * The whole id that begins as `text` does. `candidates` is asked only for short ones. Throws
 * `not-found`, or `usage` where several begin so.
 */
export async function wholeId(
  text: string | undefined,
  what: string,
  candidates: (given: string) => Promise<readonly { readonly id: string }[]>,
): Promise<string> {
  const given = (text ?? "").toLowerCase();
  if (isUuid(given)) return given;
  if (!/^[0-9a-f-]{4,36}$/.test(given)) {
    fail("usage", `${text ?? "nothing"} is no id of a ${what}: give at least its first 4 digits`);
  }
  const ids = new Set((await candidates(given)).map(({ id }) => id));
  const found = [...ids].filter((id) => id.startsWith(given));
  if (found.length === 1) return found[0]!;
  if (found.length === 0) return fail("not-found", `no ${what} begins with ${given}`);
  return fail("usage", `${found.length} ${what}s begin with ${given}: give more digits`);
}
