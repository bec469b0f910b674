/**
 * What a commit message says to the review system: its subject, and the Change-Id in its last
 * paragraph (Gerrit's form, `Change-Id: I` + 40 hex digits). Pure.
 */

export type ChangeIdFinding =
  | { readonly kind: "found"; readonly changeId: string }
  | { readonly kind: "missing" }
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
  const last =
    message
      .trimEnd()
      .split(/\n\s*\n/)
      .at(-1) ?? "";
  const ids = new Set<string>();
  for (const line of last.split("\n")) {
    const id = FOOTER.exec(line)?.[1];
    if (id !== undefined) ids.add(`I${id.slice(1).toLowerCase()}`);
  }
  const [changeId] = ids;
  if (changeId === undefined) return { kind: "missing" };
  return ids.size > 1 ? { kind: "several" } : { kind: "found", changeId };
}

/** Control and bidirectional characters become `?`: the text is shown on other people's screens. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "?");
}
