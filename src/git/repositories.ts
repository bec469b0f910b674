/**
 * Bare repositories in one folder, `<project>.git` each: made when asked for, never by a name
 * that was not checked. Who may see or change them is decided by others.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { limits } from "../base/limits.ts";
import type { Git } from "./git-command.ts";
import { checkProjectName, isProjectName } from "./project-name.ts";

export type Repositories = {
  readonly directory: string;
  /** Where the project's repository is, or would be. */
  path(project: string): string;
  has(project: string): boolean;
  /** All projects that have a repository here. */
  list(): Promise<string[]>;
  /** Makes the repository if it is not there, whole or not at all; gives its path. */
  ensure(project: string): Promise<string>;
  /** Drops a repository that is broken; content when it is gone. */
  remove(project: string): Promise<void>;
  /** Packs loose objects and drops those that nothing has named for two weeks. */
  maintain(project: string, signal?: AbortSignal): Promise<void>;
};

export function openRepositories(git: Git, directory: string): Repositories {
  const path = (project: string): string => join(directory, `${checkProjectName(project)}.git`);
  const making = new Map<string, Promise<string>>();
  const has = (project: string): boolean =>
    isProjectName(project) && existsSync(join(path(project), "HEAD"));

  async function make(project: string): Promise<string> {
    const target = path(project);
    if (has(project)) return target;
    await mkdir(dirname(target), { recursive: true });
    const aside = `${target}.new`;
    await rm(aside, { recursive: true, force: true });
    await git.run(aside, ["init", "--quiet", "--bare", "--template="], {});
    await rename(aside, target);
    return target;
  }

  return {
    directory,
    path,
    has,
    list: () => projectsBelow(directory, ""),
    ensure(project) {
      const under = making.get(project) ?? make(project).finally(() => making.delete(project));
      making.set(project, under);
      return under;
    },
    remove: (project) => rm(path(project), { recursive: true, force: true }),
    async maintain(project, signal) {
      if (!has(project)) return;
      await git.run(path(project), ["-c", "gc.auto=2000", "gc", "--auto", "--quiet"], {
        signal,
        timeoutMs: limits.gitTransferMs,
      });
    },
  };
}

async function projectsBelow(directory: string, group: string): Promise<string[]> {
  const found: string[] = [];
  if (!existsSync(directory)) return found;
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const name = group + entry.name.replace(/\.git$/, "");
    if (!entry.isDirectory() || !isProjectName(name)) continue;
    if (entry.name.endsWith(".git")) found.push(name);
    else found.push(...(await projectsBelow(join(directory, entry.name), `${name}/`)));
  }
  return found;
}
