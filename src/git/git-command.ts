/**
 * The git program, always called the same way: no system or user configuration but one file of
 * ours, no prompts, no replaced objects, only local transports, hooks of repositories ignored.
 * What a repository holds can so never change what we run. Each git process, and those it starts,
 * has an address-space limit: a few KB of trees that name each other are terabytes when walked.
 * Commits we make carry a fixed identity and a given date, so that the same merge has the same
 * name everywhere (ci.md M-5).
 */
import { join } from "node:path";
import { launch, plainEnv, run } from "../base/command.ts";
import type { Child, CommandResult } from "../base/command.ts";
import { writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import { endStrays } from "./strays.ts";

export type GitOptions = {
  readonly stdin?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  readonly accept?: readonly number[] | "any";
  readonly env?: Readonly<Record<string, string>>;
  readonly addressBytes?: number;
  readonly outputBytes?: number;
  readonly cwd?: string;
};

export type Git = {
  /** Runs `git ARGS` on a bare repository, to its end. Throws as base/command.ts says. */
  run(repository: string, args: readonly string[], options?: GitOptions): Promise<CommandResult>;
  /** Starts `git ARGS` whose streams the caller serves; the caller waits for its end. */
  start(args: readonly string[], env: Readonly<Record<string, string>>): Child;
};

/** Whose name stands on merges and repositories made by us. */
export const ownIdentity = { name: "Rackyard Merger", email: "merger@rackyard.invalid" } as const;

/**
 * What git's check of pushed objects tells the pusher and lets through: old histories of real
 * projects hold commits with such author lines, and a history cannot be rewritten. None of these
 * reaches a path, a ref or a command. Names in trees, `.git` and nulls stay errors.
 */
const harmless = [
  "badDate",
  "badDateOverflow",
  "badEmail",
  "badName",
  "badTimezone",
  "missingEmail",
  "missingNameBeforeEmail",
  "missingSpaceBeforeDate",
  "missingSpaceBeforeEmail",
  "multipleAuthors",
  "zeroPaddedDate",
  "zeroPaddedFilemode",
];

/**
 * `safe.directory`: the paths are our own, whoever owns them. What keeps memory down at the price
 * of a little time: windows onto packs instead of whole packs, one thread, small delta caches,
 * large files copied instead of loaded.
 */
const configuration = `# Written by rackyard at each start: what its git obeys.
[user]
\tname = ${ownIdentity.name}
\temail = ${ownIdentity.email}
[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tfsync = committed
[init]
\tdefaultBranch = master
[i18n]
\tlogOutputEncoding = UTF-8
[gc]
\tauto = 0
\tautoDetach = false
[advice]
\tdetachedHead = false
[transfer]
\tcredentialsInUrl = die
[receive]
\tfsckObjects = true
\tautogc = false
\tdenyDeletes = false
\tmaxInputSize = ${limits.pushBytes}
\tadvertisePushOptions = true
[receive "fsck"]
${harmless.map((fault) => `\t${fault} = warn`).join("\n")}
[core]
\tpackedGitWindowSize = 32m
\tpackedGitLimit = 256m
\tdeltaBaseCacheLimit = 32m
\tbigFileThreshold = 32m
[pack]
\tthreads = 1
\twindowMemory = 64m
\tdeltaCacheSize = 32m
[grep]
\tthreads = 1
[uploadpack]
\tallowAnySHA1InWant = true
\tallowFilter = true
`;

/**
 * Writes our configuration to `<directory>/gitconfig` and gives the program. Git that an earlier
 * server with this directory left is ended first.
 */
export async function openGit(directory: string): Promise<Git> {
  const file = join(directory, "gitconfig");
  await endStrays(file);
  await writeFileAtomic(file, configuration);
  const env = (extra: Readonly<Record<string, string>> = {}): Record<string, string> =>
    plainEnv({
      HOME: directory,
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_CONFIG_GLOBAL: file,
      GIT_ATTR_NOSYSTEM: "1",
      GIT_TERMINAL_PROMPT: "0",
      GIT_ASKPASS: "/bin/false",
      GIT_ALLOW_PROTOCOL: "file",
      GIT_NO_REPLACE_OBJECTS: "1",
      GIT_OPTIONAL_LOCKS: "0",
      ...extra,
    });
  return {
    run: (repository, args, options = {}) =>
      run("prlimit", [...limited(options.addressBytes), "git", "--git-dir", repository, ...args], {
        ...options,
        name: `git ${args[0] ?? ""}`,
        timeoutMs: options.timeoutMs ?? limits.gitMs,
        env: env(options.env),
      }),
    start: (args, extra) =>
      launch("prlimit", [...limited(), "git", ...args], {
        env: env(extra),
        stdio: ["pipe", "pipe", "pipe"],
      }),
  };
}

/**
 * prlimit(1) becomes the program it starts; git's own children inherit the limit. The soft one
 * alone is set, so that a hook (a Node, which maps far more than it uses) can lift it again.
 */
function limited(addressBytes: number = limits.gitAddressBytes): string[] {
  return [`--as=${addressBytes}:`, "--core=0", "--"];
}

/** The end of the year 9999: beyond, git's own formats do not read back what they wrote. */
const LAST_DATE = 253_402_300_799;

/**
 * Environment that dates a commit made by us: seconds since 1970, in UTC. `@` says that they are
 * seconds: without it git guesses, and finds no date in those after 2099 (a wrong clock's).
 */
export function commitDate(atSeconds: number): Record<string, string> {
  const seconds = Number.isFinite(atSeconds) ? Math.floor(atSeconds) : 0;
  const date = `@${Math.max(0, Math.min(seconds, LAST_DATE))} +0000`;
  return { GIT_AUTHOR_DATE: date, GIT_COMMITTER_DATE: date };
}
