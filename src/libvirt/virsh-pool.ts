/**
 * The way to libvirt (H-4.2–H-4.6): long-lived `virsh -q -c URI` processes fed by stdin, one to
 * read and four to change. A process that is stuck is ended and replaced; what its command did
 * is then unknown, and the caller lists before it decides. Domains by UUID, XML by private files.
 */
import { randomBytes } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { launch, plainEnv } from "../base/command.ts";
import type { Child } from "../base/command.ts";
import { fail, RackyardError } from "../base/errors.ts";
import type { ErrorCode } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { commandLine, encodeCommand, faultOf, openAnswerReader } from "./virsh-codec.ts";
import type { Answer, AnswerReader, VirshFault } from "./virsh-codec.ts";

export type Virsh = AsyncDisposable & {
  /** Output of a reading command. Throws `not-found`, `unavailable`, `timed-out`, … */
  query(...words: string[]): Promise<string>;
  /** A command that changes something. */
  change(...words: string[]): Promise<string>;
  /** Like `change`, with `xml` in a file whose path stands after the words. */
  changeByXml(words: readonly string[], xml: string): Promise<string>;
};

export type VirshOptions = {
  readonly uri: string;
  /** Where XML files lie for the moment of their use; made 0700. */
  readonly directory: string;
  readonly readers?: number;
  readonly changers?: number;
  readonly program?: string;
  /** Longest wait for a reading command; default limits.virshQueryMs. */
  readonly queryMs?: number;
};

/**
 * Opens the pool; processes start with their first command. `test:///default` has its state in
 * the process, so there one process does all (H-4.7).
 */
export function openVirsh(options: VirshOptions): Virsh {
  const alone = options.uri.startsWith("test:");
  const worker = (): Worker => openWorker(options.program ?? "virsh", options.uri);
  const readers = Array.from({ length: alone ? 1 : (options.readers ?? 1) }, worker);
  const changers = alone ? readers : Array.from({ length: options.changers ?? 4 }, worker);
  const pick = (from: readonly Worker[]): Worker =>
    from.reduce((best, next) => (next.waiting() < best.waiting() ? next : best));
  const change = (words: readonly string[]): Promise<string> =>
    pick(changers).command(words, actMs(words[0]));
  return {
    query: (...words) => pick(readers).command(words, options.queryMs ?? limits.virshQueryMs),
    change: (...words) => change(words),
    async changeByXml(words, xml) {
      const path = join(options.directory, `${randomBytes(8).toString("hex")}.xml`);
      await mkdir(options.directory, { recursive: true, mode: 0o700 });
      try {
        await writeFile(path, xml, { mode: 0o600, flag: "wx" });
        return await change([...words, path]);
      } finally {
        await rm(path, { force: true });
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...new Set([...readers, ...changers])].map((each) => each.end()));
    },
  };
}

function actMs(verb: string | undefined): number {
  const slow = verb === "save" || verb === "restore" || verb === "managedsave";
  return slow ? limits.virshSaveMs : limits.virshActMs;
}

type Worker = {
  command(words: readonly string[], timeoutMs: number): Promise<string>;
  waiting(): number;
  end(): Promise<void>;
};

/** One virsh, its commands one after the other; started (again) when the next one comes. */
function openWorker(program: string, uri: string): Worker {
  let shell: VirshProcess | undefined;
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  let over = false;

  async function once(words: readonly string[], timeoutMs: number): Promise<string> {
    if (over) fail("unavailable", "the way to libvirt is closed");
    if (!shell || shell.dead()) shell = startVirsh(program, uri);
    const answer = await shell.ask(commandLine(words), timeoutMs);
    if (answer.errors.length === 0) return answer.output;
    const fault = faultOf(answer.errors);
    return fail(codes[fault], `virsh ${words[0]}: ${answer.errors.join(": ").slice(0, 1_000)}`);
  }
  return {
    waiting: () => waiting,
    command(words, timeoutMs) {
      waiting++;
      const done = last.then(() => once(words, timeoutMs)).finally(() => waiting--);
      last = done.catch(() => undefined);
      return done;
    },
    async end() {
      over = true;
      await shell?.end();
    },
  };
}

const codes: Readonly<Record<VirshFault, ErrorCode>> = {
  "no-domain": "not-found",
  "is-on": "conflict",
  "is-off": "conflict",
  "no-connection": "unavailable",
  other: "command-failed",
};

type VirshProcess = {
  ask(line: string, timeoutMs: number): Promise<Answer>;
  dead(): boolean;
  end(): Promise<void>;
};

/** English, and a line wide enough: where it is narrow the echo of a command is scrolled. */
export const virshEnv = (): Record<string, string> => plainEnv({ LC_ALL: "C", COLUMNS: "30000" });

/** They end with the agent, however that one ends: `virsh event` reads no stdin. */
export const withParent = ["--pdeathsig", "KILL", "--"] as const;

function startVirsh(program: string, uri: string): VirshProcess {
  const child: Child = launch("setpriv", [...withParent, program, "-q", "-c", uri], {
    stdio: ["pipe", "pipe", "pipe"],
    env: virshEnv(),
  });
  let pending: { reader: AnswerReader; look: () => void; gone: (why: unknown) => void } | undefined;
  let dead = false;
  const decode = (take: (text: string) => void) => {
    const decoder = new TextDecoder();
    return (chunk: Buffer): void => {
      take(decoder.decode(chunk, { stream: true }));
      pending?.look();
    };
  };
  child.stdin?.on("error", () => undefined); // its death is told by `exited`
  child.stdout?.on(
    "data",
    decode((text) => pending?.reader.out(text)),
  );
  child.stderr?.on(
    "data",
    decode((text) => pending?.reader.err(text)),
  );
  const died = (why: unknown): void => {
    dead = true;
    pending?.gone(why);
  };
  child.exited.then(() => died(undefined), died);

  return {
    dead: () => dead,
    end: () => child.end("end", 500),
    async ask(line, timeoutMs) {
      const nonce = randomBytes(12).toString("hex");
      const reader = openAnswerReader(line, nonce);
      const { promise, resolve, reject } = Promise.withResolvers<Answer>();
      const timer = setTimeout(() => {
        dead = true;
        void child.end("timeout", 100);
        reject(timeOut(line, timeoutMs));
      }, timeoutMs);
      pending = {
        reader,
        look() {
          const answer = reader.answer();
          if (answer) resolve(answer);
        },
        gone: (why) => reject(why ?? noConnection(reader.said())),
      };
      child.stdin?.write(encodeCommand(line, nonce));
      try {
        return await promise;
      } finally {
        clearTimeout(timer);
        pending = undefined;
      }
    },
  };
}

function timeOut(line: string, timeoutMs: number): RackyardError {
  const verb = line.split(" ")[0];
  return new RackyardError(
    "timed-out",
    `virsh ${verb}: no answer within ${timeoutMs} ms; what it did is unknown`,
  );
}

function noConnection(said: string): RackyardError {
  const text = said.trim().replaceAll("error: ", "").split("\n").join(": ").slice(0, 500);
  return new RackyardError("unavailable", `virsh ended: ${text || "without a word"}`);
}
