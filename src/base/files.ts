/**
 * Files that must be whole or not be: written aside, synced, renamed. JSON files read back are
 * checked by their schema.
 */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, open, readFile, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fail, isRackyardError, RackyardError } from "./errors.ts";

/** Replaces a file atomically; durable when it returns. */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  mode = 0o644,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const aside = `${path}.${randomBytes(6).toString("hex")}.new`;
  try {
    const file = await open(aside, "wx", mode);
    try {
      await file.writeFile(data);
      await file.chmod(mode); // the umask does not decide
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    throw spaceError(path, error);
  }
  await syncDirectory(dirname(path));
}

export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The file's text, or undefined where it does not exist. */
export async function readTextIfAny(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** When a process began, in clock ticks after boot (proc(5), stat field 22); undefined if gone. */
export async function processStart(pid: number): Promise<string | undefined> {
  const stat = await readTextIfAny(`/proc/${pid}/stat`).catch(() => undefined);
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields?.[0] === "Z" ? undefined : fields?.[19];
}

/** A full disk as `no-space`; any other error as it is. */
export function spaceError(path: string, error: unknown): unknown {
  if ((error as NodeJS.ErrnoException).code !== "ENOSPC") return error;
  return fail("no-space", `no space left for ${path}`, { cause: error });
}

/** Whether a full disk is the reason, whoever found it so: a call of ours, SQLite, or a program. */
export function isNoSpace(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (isRackyardError(error, "no-space")) return true;
  if ((error as NodeJS.ErrnoException).code === "ENOSPC") return true;
  // what programs print of ENOSPC; children run with LANG=C.UTF-8
  return error.message.includes("No space left on device") || isNoSpace(error.cause);
}

/**
 * A new folder below `TMPDIR`, 0700, which the caller removes. Throws `temporary-unusable` where
 * none can be made, and `no-space`.
 */
export async function temporaryFolder(prefix: string): Promise<string> {
  const parent = tmpdir();
  try {
    return await mkdtemp(join(parent, prefix));
  } catch (error) {
    throw unusable(parent, spaceError(parent, error));
  }
}

function unusable(parent: string, error: unknown): unknown {
  const codes = ["ENOENT", "ENOTDIR", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP"];
  if (!codes.includes((error as NodeJS.ErrnoException).code ?? "")) return error;
  return new RackyardError("temporary-unusable", `no temporary folder can be made in ${parent}`, {
    cause: error,
    remedy: "set TMPDIR to a directory that is there and that this user may write",
  });
}

/** The path, or the nearest directory above it that is there: whose file system it will have. */
export async function nearestExisting(path: string): Promise<string> {
  for (let place = path; ; place = dirname(place)) {
    const there = await stat(place).then(
      () => true,
      () => false,
    );
    if (there || place === dirname(place)) return place;
  }
}
