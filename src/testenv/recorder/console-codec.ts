/**
 * What a machine's serial line tells of its boot (H-11.2, surface.md §10): the marks that guests
 * print on purpose, and the phases that firmware, boot loader and kernel give away. Pure.
 */

export type ConsoleMark =
  /** `@rackyard up`: the machine says that it is ready. */
  | { readonly kind: "up" }
  /** `@rackyard phase=WORD`, or a phase seen in what it prints. */
  | { readonly kind: "phase"; readonly phase: string }
  /** `@rackyard fail WORDS`. */
  | { readonly kind: "fail"; readonly detail: string };

const PHASE_CHARS = 64;
const DETAIL_CHARS = 200;

const seen: readonly { readonly form: RegExp; readonly phase: string }[] = [
  { form: /^SeaBIOS \(version /, phase: "firmware" },
  { form: /^iPXE (?:\(|initialising|[0-9])/, phase: "ipxe" },
  { form: /^\s*(?:SYSLINUX|ISOLINUX|GRUB loading)\b/, phase: "loader" },
  { form: /^(?:\[ *[0-9.]+\] )?Linux version /, phase: "kernel" },
  { form: /\] Run \/\S+ as init process/, phase: "init" },
  { form: /^\S+ login: ?$/, phase: "login" },
];

/** The mark in one line, if any; escape sequences of terminals are passed over. */
export function readConsoleLine(line: string): ConsoleMark | undefined {
  const text = plain(line);
  const told = /(?:^|\s)@rackyard (up|phase=\S+|fail\b.*)$/.exec(text.trimEnd())?.[1];
  if (told === "up") return { kind: "up" };
  if (told?.startsWith("phase=")) {
    return { kind: "phase", phase: told.slice("phase=".length).slice(0, PHASE_CHARS) };
  }
  if (told)
    return { kind: "fail", detail: told.slice("fail".length).trim().slice(0, DETAIL_CHARS) };
  const phase = seen.find(({ form }) => form.test(text))?.phase;
  return phase === undefined ? undefined : { kind: "phase", phase };
}

/** Without ANSI control sequences and other control characters. */
function plain(line: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what it looks for
  return line.replaceAll(/\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f]/g, "");
}
