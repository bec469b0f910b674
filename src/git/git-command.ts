/**
 * The git program, always called the same way: no system or user configuration but one file of
 * ours, no prompts, no replaced objects, only local transports, hooks of repositories ignored.
 * What a repository holds can so never change what we run. Commits we make carry a fixed
 * identity and a given date, so that the same merge has the same name everywhere (ci.md M-5).
 */
import { join } from "node:path";
import { launch, plainEnv, run } from "../base/command.ts";
import type { Child, CommandResult } from "../base/command.ts";
import { writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";

export type GitOptions = {
  readonly stdin?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  readonly accept?: readonly number[] | "any";
  readonly env?: Readonly<Record<string, string>>;
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
 * `safe.directory`: the paths are our own, whoever owns them. Objects of a push are checked;
 * the three faults let through are those that old histories of real projects have.
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
[receive "fsck"]
\tzeroPaddedFilemode = ignore
\tmissingSpaceBeforeDate = ignore
\tbadTimezone = ignore
[uploadpack]
\tallowAnySHA1InWant = true
\tallowFilter = true
`;

/** Writes our configuration to `<directory>/gitconfig` and gives the program. */
export async function openGit(directory: string): Promise<Git> {
  const file = join(directory, "gitconfig");
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
      run("git", ["--git-dir", repository, ...args], {
        ...options,
        timeoutMs: options.timeoutMs ?? limits.gitMs,
        env: env(options.env),
      }),
    start: (args, extra) =>
      launch("git", args, { env: env(extra), stdio: ["pipe", "pipe", "pipe"] }),
  };
}

/** Environment that dates a commit made by us: seconds since 1970, in UTC. */
export function commitDate(atSeconds: number): Record<string, string> {
  const date = `${atSeconds} +0000`;
  return { GIT_AUTHOR_DATE: date, GIT_COMMITTER_DATE: date };
}
