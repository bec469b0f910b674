/**
 * The cell's control group (surface.md §9): cgroup2, which works beside v1 controllers, and its
 * `cgroup.kill`. Where none is mounted it is mounted for the moment of its use; where that is
 * refused all of this does nothing, and the scan of /proc ends the cell instead.
 */
import { constants } from "node:fs";
import { access, mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../base/command.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";

/** Calls `use` with the root of the hierarchy, or with undefined where there is none. */
async function withHierarchy<T>(
  mountPoint: string,
  use: (root: string | undefined) => Promise<T>,
): Promise<T> {
  const mounted = await mountedHierarchy();
  if (mounted !== undefined) return use(mounted);
  await mkdir(mountPoint, { recursive: true });
  const { exitCode } = await run("mount", ["-t", "cgroup2", "none", mountPoint], { accept: "any" });
  if (exitCode !== 0) return use(undefined);
  try {
    return await use(mountPoint);
  } finally {
    await run("umount", ["-l", mountPoint], { accept: "any" });
  }
}

async function mountedHierarchy(): Promise<string | undefined> {
  for (const line of (await readFile("/proc/self/mountinfo", "utf8")).split("\n")) {
    const [own, foreign] = line.split(" - ");
    const [, , , root, mountPoint] = own?.split(" ") ?? [];
    if (!foreign?.startsWith("cgroup2 ") || root !== "/" || mountPoint === undefined) continue;
    const writable = await access(mountPoint, constants.W_OK).then(
      () => true,
      () => false,
    );
    if (writable) return mountPoint;
  }
  return undefined;
}

/** Puts a process (with its later children) into the group, made if need be. False: it cannot. */
export async function joinGroup(group: string, mountPoint: string, pid: number): Promise<boolean> {
  return withHierarchy(mountPoint, async (root) => {
    if (root === undefined) return false;
    try {
      await mkdir(join(root, group), { recursive: true });
      await writeFile(join(root, group, "cgroup.procs"), String(pid));
      return true;
    } catch {
      return false; // read-only in some containers
    }
  });
}

/** SIGKILL to everything in the group at once. */
export async function killGroup(group: string, mountPoint: string): Promise<void> {
  await withHierarchy(mountPoint, async (root) => {
    if (root !== undefined) {
      await writeFile(join(root, group, "cgroup.kill"), "1").catch(() => undefined);
    }
  });
}

/** Removes the empty group with what is below it. True: there is none now. */
export async function removeGroup(group: string, mountPoint: string): Promise<boolean> {
  return withHierarchy(mountPoint, async (root) => {
    if (root === undefined) return true;
    const path = join(root, group);
    const gone = await until(() => removeTree(path), {
      timeoutMs: limits.controlGroupMs,
      everyMs: 20,
      what: "the control group to be empty",
    }).catch(() => false);
    return gone;
  });
}

export async function groupExists(group: string, mountPoint: string): Promise<boolean> {
  return withHierarchy(mountPoint, async (root) => {
    if (root === undefined) return false;
    return access(join(root, group)).then(
      () => true,
      () => false,
    );
  });
}

async function removeTree(path: string): Promise<boolean> {
  try {
    for (const entry of await readdir(path, { withFileTypes: true })) {
      if (entry.isDirectory()) await removeTree(join(path, entry.name));
    }
    await rmdir(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}
