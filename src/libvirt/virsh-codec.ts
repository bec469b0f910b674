/**
 * What a long-lived `virsh -q` is told and how its answer is found (H-4.3). Its stdout repeats
 * prompt and command, errors go to stderr, and there are no exit codes; so each command is
 * followed by two echoes of a nonce:
 *
 *   stdin   COMMAND\n            echo NONCE\n                  echo --err NONCE\n
 *   stdout  virsh # COMMAND\n ANSWER  virsh # echo NONCE\n NONCE  virsh # echo --err NONCE\n
 *   stderr  error: …\n (if it failed)                           error: NONCE\n
 *
 * The answer is complete when both nonces have come back. Chunks may be cut anywhere. Pure.
 */
import { assert } from "../base/assert.ts";

const PROMPT = "virsh # ";

/** Only these characters reach virsh (H-4.4): no quote, blank, `;`, `\` or newline among them. */
const WORD = /^[A-Za-z0-9_./:=@-]+$/;

/** A command line of allow-listed words; what does not fit is our mistake, never the world's. */
export function commandLine(words: readonly string[]): string {
  assert(words.length > 0, "a virsh command has words");
  for (const word of words) assert(WORD.test(word), `not allowed in a virsh command: ${word}`);
  return words.join(" ");
}

/** What goes to stdin for one command. */
export function encodeCommand(line: string, nonce: string): string {
  return `${line}\necho ${nonce}\necho --err ${nonce}\n`;
}

export type Answer = {
  readonly output: string;
  /** The text of stderr without `error: `; empty: the command succeeded. */
  readonly errors: readonly string[];
};

export type AnswerReader = {
  out(chunk: string): void;
  err(chunk: string): void;
  /** Once complete; what came after the marks is no part of it. */
  answer(): Answer | undefined;
  /** All of stderr so far, for a process that died before it answered. */
  said(): string;
};

/** Reads the answer to `line`; begins after the previous answer was complete. */
export function openAnswerReader(line: string, nonce: string): AnswerReader {
  // Its prompt is printed when the answer before is done, and may have been read with that one.
  const begin = `${line}\n`;
  const end = `${PROMPT}echo ${nonce}\n${nonce}`;
  const errorEnd = `error: ${nonce}\n`;
  let out = "";
  let err = "";
  return {
    out: (chunk) => (out += chunk),
    err: (chunk) => (err += chunk),
    said: () => err,
    answer() {
      const outAt = out.indexOf(end);
      const errAt = err.indexOf(errorEnd);
      if (outAt < 0 || errAt < 0) return undefined;
      const from = out.indexOf(begin);
      if (from < 0 || from > outAt) return { output: "", errors: [`not understood: ${out}`] };
      return {
        output: out.slice(from + begin.length, outAt),
        errors: errorsIn(err.slice(0, errAt)),
      };
    },
  };
}

/** virsh tells on stderr that it lost and found its connection: no failure of the command. */
const NOTICE = /^(?:Disconnected from .* due to |Reconnected to the hypervisor)/;

function errorsIn(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.replace(/^error: /, "").trim())
    .filter((line) => line !== "" && !NOTICE.test(line));
}

export type VirshFault = "no-domain" | "is-on" | "is-off" | "no-connection" | "other";

/** What virsh's words mean, as far as anything is decided by it (LANG=C). */
export function faultOf(errors: readonly string[]): VirshFault {
  const text = errors.join("\n");
  if (/failed to get domain|Domain not found/i.test(text)) return "no-domain";
  if (/[Dd]omain is already (?:active|running)|already exists with uuid .* running/.test(text)) {
    return "is-on";
  }
  if (/domain is not running|domain '.*' is not running/i.test(text)) return "is-off";
  if (
    /[Ff]ailed to connect|[Cc]onnection (?:refused|reset)|End of file|no valid connection|[Bb]roken pipe|client socket is closed|Cannot (?:recv|write) data/.test(
      text,
    )
  ) {
    return "no-connection";
  }
  return "other";
}
