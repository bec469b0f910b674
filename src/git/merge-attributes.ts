/**
 * The `.gitattributes` of a commit as files in a folder, since git that merges without a working
 * tree reads attributes from one all the same (2.39 has no other way), and without them takes
 * `merge=union` for a conflict and a binary file for text. Nothing else is written there, and
 * nothing is run: filters and merge drivers are configuration, which is ours.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { isRackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Git, GitOptions } from "./git-command.ts";
import { isOutOfBounds } from "./repository.ts";

const NAME = ".gitattributes";
const MOST_FILES = 200;
const MOST_BYTES = 1024 * 1024;

/** Hands `use` the folder, or undefined where the commit has no attributes; removes it after. */
export async function withAttributes<T>(
  git: Git,
  repository: string,
  commit: string,
  use: (workTree: string | undefined) => Promise<T>,
  options: GitOptions = {},
): Promise<T> {
  const paths = await attributeFiles(git, repository, commit, options);
  if (paths.length === 0) return use(undefined);
  const directory = await mkdtemp(join(tmpdir(), "rackyard-merge-"));
  try {
    for (const path of paths) {
      const shown = await git.run(repository, ["cat-file", "blob", `${commit}:${path}`], {
        ...options,
        accept: "any",
        outputBytes: MOST_BYTES,
      });
      if (shown.exitCode !== 0) continue;
      await mkdir(join(directory, dirname(path)), { recursive: true });
      await writeFile(join(directory, path), shown.stdout);
    }
    return await use(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Where the commit has attributes; where its trees cannot be walked, the first folder's alone. */
async function attributeFiles(
  git: Git,
  repository: string,
  commit: string,
  options: GitOptions,
): Promise<string[]> {
  const found = await git
    .run(
      repository,
      ["grep", "-I", "-l", "-z", "--full-name", "-e", "", commit, "--", `:(glob)**/${NAME}`],
      {
        ...options,
        accept: [0, 1],
        timeoutMs: limits.gitWalkMs,
        addressBytes: limits.gitWalkAddressBytes,
      },
    )
    .catch((error: unknown) => {
      options.signal?.throwIfAborted();
      if (!isRackyardError(error) || !isOutOfBounds(error)) throw error;
      return { stdout: `${commit}:${NAME}` };
    });
  return found.stdout
    .split("\0")
    .filter(Boolean)
    .map((name) => name.slice(commit.length + 1))
    .filter((path) => normalize(path) === path && !path.startsWith("../"))
    .filter((path) => !path.startsWith("/") && !path.split("/").includes(".git"))
    .slice(0, MOST_FILES);
}
