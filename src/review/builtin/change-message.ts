/**
 * What a commit message says to the review system: its subject, and the Change-Id in its last
 * paragraph (Gerrit's form, `Change-Id: I` + 40 hex digits). Pure.
 */

export type ChangeIdFinding =
  | { readonly kind: "found"; readonly changeId: string }
  | { readonly kind: "missing" }
  /** One stands above the last paragraph, where no tool looks for it. */
  | { readonly kind: "above"; readonly changeId: string }
  | { readonly kind: "several" };

const FOOTER = /^change-id:\s*(I[0-9a-f]{40})\s*$/i;
const SUBJECT_CHARS = 200;

/** The first paragraph as one line, as git does; without what a terminal would obey. */
export function subjectOf(message: string): string {
  const paragraph = message.trimStart().split(/\n\s*\n/, 1)[0] ?? "";
  const line = printable(paragraph.replace(/\s+/g, " ").trim());
  if (line === "") return "(no subject)";
  return line.length > SUBJECT_CHARS ? `${line.slice(0, SUBJECT_CHARS - 1)}…` : line;
}

export function findChangeId(message: string): ChangeIdFinding {
  const paragraphs = message.trimEnd().split(/\n\s*\n/);
  const [changeId, ...others] = idsIn(paragraphs.at(-1) ?? "");
  if (changeId !== undefined) {
    return others.length > 0 ? { kind: "several" } : { kind: "found", changeId };
  }
  const above = idsIn(paragraphs.slice(0, -1).join("\n")).at(-1);
  return above === undefined ? { kind: "missing" } : { kind: "above", changeId: above };
}

function idsIn(text: string): string[] {
  const ids = text
    .split("\n")
    .map((line) => FOOTER.exec(line)?.[1])
    .filter((id) => id !== undefined);
  return [...new Set(ids.map((id) => `I${id.slice(1).toLowerCase()}`))];
}

/** Lines that mean something to other review systems' CI and nothing here yet (ci.md D-2). */
const UNHEARD = /^(?:depends-on|needed-by):.*$/gim;

/** What to say of lines that are not obeyed, so that nobody trusts in them; undefined: nothing. */
export function unheardOf(message: string): string | undefined {
  const lines = (message.match(UNHEARD) ?? []).slice(0, 10);
  if (lines.length === 0) return undefined;
  const shown = lines.map((line) => `- ${printable(line.trim()).slice(0, 200)}`).join("\n");
  return `Not understood yet: this change is tested as if these lines were not there.\n${shown}`;
}

/** Control and bidirectional characters become `?`: the text is shown on other people's screens. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "?");
}
