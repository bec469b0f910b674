/**
 * A review system on real parts for tests: store, git, HTTP server on loopback, and authors with
 * the real git client. Tokens are the users' names; whoever ends it removes everything.
 */
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { plainEnv, run } from "../../src/base/command.ts";
import type { CommandResult } from "../../src/base/command.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openGit } from "../../src/git/git-command.ts";
import type { Git } from "../../src/git/git-command.ts";
import type { Caller, Role } from "../../src/model/identity.ts";
import type { ReviewEvent } from "../../src/model/change.ts";
import { openBuiltinReview } from "../../src/review/builtin/builtin.ts";
import type { BuiltinReview } from "../../src/review/builtin/builtin.ts";
import { openSqliteStore } from "../../src/store/store.ts";
import type { Store } from "../../src/store/store.ts";

export const people: Readonly<Record<string, Role>> = {
  ada: "admin",
  otto: "operator",
  dora: "developer",
  dirk: "developer",
  hugo: "holder",
  rita: "reader",
};

export function caller(name: string): Caller {
  return { name, role: people[name]!, groups: [] };
}

export type Author = {
  readonly directory: string;
  /** Runs git in the author's clone; any exit code. */
  git(...args: string[]): Promise<CommandResult>;
  /** Runs git that must succeed; its output. */
  ok(...args: string[]): Promise<string>;
  write(file: string, text: string): Promise<void>;
  /** Writes a file and commits it; gives the commit. With a Change-Id line unless `id` is null. */
  commit(file: string, text: string, subject: string, id?: string | null): Promise<string>;
  push(ref: string): Promise<CommandResult>;
};

export type Bench = AsyncDisposable & {
  readonly directory: string;
  readonly git: Git;
  readonly url: string;
  readonly server: Server;
  readonly events: ReviewEvent[];
  readonly store: Store;
  review: BuiltinReview;
  /** A clone of a project; with first content made by the admin where there is none. */
  author(name: string, project?: string): Promise<Author>;
  /** The admin's first content of a project. */
  seed(project: string, files?: Record<string, string>, branch?: string): Promise<Author>;
  /** Ends review and store as a restart does, and opens them again. */
  restart(): Promise<void>;
};

let changeIds = 0;
export function newChangeId(): string {
  return `I${(++changeIds).toString(16).padStart(40, "0")}`;
}

export async function openBench(
  projects: readonly string[] = ["app"],
  anonymousRead: "loopback" | "off" = "loopback",
): Promise<Bench> {
  const directory = await mkdtemp(join(tmpdir(), "rackyard-git-"));
  const git = await openGit(join(directory, "server"));
  const events: ReviewEvent[] = [];
  let review: BuiltinReview;
  let store: Store;
  const server = createServer((request, response) => {
    void review.git(request, response, whoIs(request));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const open = async (): Promise<void> => {
    store = await openSqliteStore(join(directory, "server/rackyard.db"));
    review = await openBuiltinReview({
      connection: "local",
      store,
      git,
      repositoriesDirectory: join(directory, "server/git"),
      binDirectory: join(directory, "bin"),
      socketPath: join(directory, "run/git.sock"),
      node: process.execPath,
      url: () => url,
      anonymousRead,
      buildsOf: () => Promise.resolve(new Map()),
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
    });
    follow(review, events);
    await review.setProjects(projects);
  };
  await open();
  const close = async (): Promise<void> => {
    await review[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  };
  const bench: Bench = {
    directory,
    git,
    url,
    server,
    events,
    get store() {
      return store;
    },
    get review() {
      return review;
    },
    author: (name, project = projects[0]!) => makeAuthor(bench, name, project),
    async seed(project, files = { "README.md": "first\n" }, branch = "master") {
      const author = await makeAuthor(bench, "ada", project);
      await pushFirstContent(author, files, branch);
      return author;
    },
    async restart() {
      await close();
      await open();
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
      await close();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return bench;
}

/** Keeps `events` up with what the review system told since now. */
function follow(review: BuiltinReview, events: ReviewEvent[]): void {
  let reading = Promise.resolve();
  review.onNews(() => {
    reading = reading.then(async () => {
      events.push(...(await review.eventsSince(events.at(-1)?.seq ?? 0, 1_000)));
    });
    reading.catch(() => undefined); // the store is closed under it
  });
}

/** HTTP Basic as git sends it; the token is the user's name. */
export function whoIs(request: IncomingMessage): Caller | undefined {
  const basic = /^Basic (.*)$/.exec(request.headers.authorization ?? "")?.[1];
  if (basic === undefined) return undefined;
  const [name = "", token] = Buffer.from(basic, "base64").toString("utf8").split(":");
  return name === token && Object.hasOwn(people, name) ? caller(name) : undefined;
}

let clones = 0;
export async function makeAuthor(
  bench: { readonly directory: string; readonly url: string },
  name: string,
  project: string,
): Promise<Author> {
  const home = join(bench.directory, "authors", `${name}-${++clones}`);
  const directory = join(home, "clone");
  await mkdir(home, { recursive: true });
  const credentials = join(home, "credentials");
  await writeFile(credentials, bench.url.replace("http://", `http://${name}:${name}@`), {
    mode: 0o600,
  });
  const env = plainEnv({ HOME: home, GIT_CONFIG_NOSYSTEM: "1", GIT_TERMINAL_PROMPT: "0" });
  const config = [
    `[user]\nname = ${name}\nemail = ${name}@example.com`,
    `[credential]\nhelper = store --file=${credentials}`,
    "[advice]\ndetachedHead = false",
  ];
  await writeFile(join(home, ".gitconfig"), `${config.join("\n")}\n`);
  await run("git", ["clone", "-q", `${bench.url}/git/${project}`, directory], { env });
  const author: Author = {
    directory,
    git: (...args) => run("git", args, { cwd: directory, env, accept: "any" }),
    ok: async (...args) => (await run("git", args, { cwd: directory, env })).stdout.trim(),
    async write(file, text) {
      await mkdir(dirname(join(directory, file)), { recursive: true });
      await writeFile(join(directory, file), text);
    },
    async commit(file, text, subject, id = newChangeId()) {
      await author.write(file, text);
      await author.ok("add", "--all");
      const message = id === null ? subject : `${subject}\n\nChange-Id: ${id}`;
      await author.ok("commit", "-q", "-m", message);
      return author.ok("rev-parse", "HEAD");
    },
    push: (ref) => author.git("push", "origin", `HEAD:${ref}`),
  };
  return author;
}

export async function pushFirstContent(
  author: Author,
  files: Readonly<Record<string, string>>,
  branch: string,
): Promise<void> {
  await author.ok("checkout", "-q", "--orphan", `${branch}-seed`);
  for (const [file, text] of Object.entries(files)) await author.write(file, text);
  await author.ok("add", "--all");
  await author.ok("commit", "-q", "-m", `First content of ${branch}`);
  await author.ok("push", "-q", "origin", `HEAD:refs/heads/${branch}`);
}

/** What the pusher read from the server, line by line, without the client's padding. */
export function remoteLines(result: CommandResult): string[] {
  return result.stderr
    .split("\n")
    .filter((line) => line.startsWith("remote:"))
    .map((line) => line.trimEnd());
}
