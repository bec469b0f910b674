/**
 * The strings that 2014's clients send over ssh (H-6.6), read whole: either one of these forms,
 * with a name of this lease, or unknown. Nothing of a string is ever run. And the answers, as
 * virsh and 2014's pipes printed them. Pure; acting is the gate's.
 */
import { limits } from "../../base/limits.ts";

export type PowerVerb = "start" | "destroy" | "reset";

export type Verb =
  | { readonly kind: "power"; readonly verb: PowerVerb; readonly domain: string }
  | { readonly kind: "list"; readonly all: boolean; readonly form: "table" | "names" | "quoted" }
  /** Form a: `list --all` through tail and awk: a line before and one after the names. */
  | { readonly kind: "list-column" }
  | { readonly kind: "macs"; readonly domain: string }
  | { readonly kind: "copyseed" };

export type ReadVerb =
  | { readonly kind: "verb"; readonly verb: Verb }
  /** A known form with a name that is not of this lease. */
  | { readonly kind: "not-yours"; readonly name: string }
  | { readonly kind: "unknown" };

/** What of a lease the forms may name. */
export type VerbScope = { readonly number: number; readonly domains: readonly string[] };

/** U of H-6.6. */
const U = String.raw`(?:LC_ALL=C )?/usr/bin/virsh(?: --connect qemu:///system)?`;
const NAME = String.raw`(?<name>[A-Za-z0-9_]{1,64})`;
const literal = (text: string): string => text.replaceAll(/[$()*+.?[\\\]^{|}]/g, String.raw`\$&`);

type Form = { readonly form: RegExp; readonly verb: (name: string, word: string) => Verb };
const whole = (source: string): RegExp => new RegExp(`^(?:${source})$`);
const power = (name: string, word: string): Verb => ({
  kind: "power",
  verb: word as PowerVerb,
  domain: name,
});
const list = (all: boolean, form: "table" | "names" | "quoted") => (): Verb => ({
  kind: "list",
  all,
  form,
});
const macs = (name: string): Verb => ({ kind: "macs", domain: name });

/** 2014's pipes behind virsh, as its clients wrote them. */
const pipes = {
  column: literal(`| tail -n +2 | awk -F" " '{print $2}'`),
  running: literal(`|grep running`),
  quoted: literal(`awk -v qc='"' -F" " '{print qc$2qc}'`),
  macByGrep: literal(`| grep "mac address" | awk -F"'" '{print $2}' | tr -d ':'`),
  macByAwk: literal(`| awk -F "'" '/mac address/{print $2}'| tr -d ':'`),
};

const forms: readonly Form[] = [
  { form: whole(`${U} list --all ${pipes.column}`), verb: () => ({ kind: "list-column" }) },
  {
    form: whole(`${U} list --all${pipes.running} ?\\| ?${pipes.quoted}`),
    verb: list(false, "quoted"),
  },
  { form: whole(`${U} dumpxml ${NAME} ${pipes.macByGrep}`), verb: macs },
  { form: whole(`${U} dumpxml ${NAME} ${pipes.macByAwk}`), verb: macs },
  { form: whole(`${U} (?<word>start|destroy|reset) ${NAME}`), verb: power },
  { form: whole(`${U} (?<word>start|destroy|reset) "${NAME}"`), verb: power },
  { form: whole(`virsh (?<word>start|destroy) ${NAME}`), verb: power },
  { form: whole(`virsh list`), verb: list(false, "table") },
  { form: whole(`virsh list --all`), verb: list(true, "table") },
  { form: whole(`${U} list --all --name`), verb: list(true, "names") },
  { form: whole(`${U} list --name`), verb: list(false, "names") },
];

/** Reads SSH_ORIGINAL_COMMAND. `$` of JavaScript, without flag m, is the very end (H-14.1). */
export function readVerb(command: string, scope: VerbScope): ReadVerb {
  if (Buffer.byteLength(command) > limits.gateCommandBytes) return { kind: "unknown" };
  const seed = /^copyseed (?<number>[0-9]{1,3})$/.exec(command)?.groups?.["number"];
  if (seed !== undefined) {
    return seed === String(scope.number)
      ? { kind: "verb", verb: { kind: "copyseed" } }
      : { kind: "not-yours", name: seed };
  }
  for (const { form, verb } of forms) {
    const groups = form.exec(command)?.groups ?? (form.test(command) ? {} : undefined);
    if (groups === undefined) continue;
    const name = groups["name"];
    if (name !== undefined && !scope.domains.includes(name)) return { kind: "not-yours", name };
    return { kind: "verb", verb: verb(name ?? "", groups["word"] ?? "") };
  }
  return { kind: "unknown" };
}

export type GateAnswer = {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
};

/** H-6.7: no answer is longer; ours are ASCII, so characters are bytes. */
const cut = (text: string): string => text.slice(0, limits.gateOutputBytes);

export const answered = (stdout: string): GateAnswer => ({
  stdout: cut(stdout),
  stderr: "",
  exitCode: 0,
});
export const refused = (line: string): GateAnswer => ({
  stdout: "",
  stderr: cut(`${line}\n`),
  exitCode: 1,
});

export const unknownCommand: GateAnswer = refused("Unknown command");

/** A name that is not of this lease, in virsh's words. */
export function notYours(name: string): GateAnswer {
  return refused(`error: failed to get domain '${name}'`);
}

export type ListedDomain = { readonly name: string; readonly running: boolean };

/** The answer to any of the list verbs. */
export function printList(
  verb: Extract<Verb, { kind: "list" | "list-column" }>,
  domains: readonly ListedDomain[],
): GateAnswer {
  if (verb.kind === "list-column") {
    return answered(["", ...domains.map((domain) => domain.name), "", ""].join("\n"));
  }
  const shown = verb.all ? domains : domains.filter((domain) => domain.running);
  if (verb.form === "table") return answered(table(shown));
  const names = shown.map(({ name }) => (verb.form === "quoted" ? `"${name}"` : name));
  const lines = names.map((name) => `${name}\n`).join("");
  return answered(verb.form === "names" ? `${lines}\n` : lines);
}

/** virsh's table: Id, Name, State, as wide as the longest name. */
function table(domains: readonly ListedDomain[]): string {
  const width = Math.max(4, ...domains.map((domain) => domain.name.length));
  const row = (id: string, name: string, state: string): string =>
    ` ${id.padEnd(4)} ${name.padEnd(width + 2)} ${state}`;
  const head = row("Id", "Name", "State");
  const lines = domains.map(({ name, running }, index) =>
    row(running ? String(index + 1) : "-", name, running ? "running" : "shut off"),
  );
  return `${[head, "-".repeat(width + 20), ...lines].join("\n")}\n\n`;
}

/** MACs of a domain in bare hex, a line each. */
export function printMacs(macs: readonly string[]): GateAnswer {
  return answered(macs.map((mac) => `${mac.replaceAll(":", "")}\n`).join(""));
}

/** What virsh says of a power verb that was carried out, or that found it so already. */
export function printPower(
  verb: PowerVerb,
  domain: string,
  outcome: "done" | "was-so",
): GateAnswer {
  if (outcome === "done") {
    const words = { start: "started", destroy: "destroyed", reset: "was reset" };
    return answered(`Domain ${domain} ${words[verb]}\n\n`);
  }
  return refused(
    verb === "start"
      ? "error: Domain is already active"
      : "error: Requested operation is not valid: domain is not running",
  );
}
