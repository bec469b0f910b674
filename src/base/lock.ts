/**
 * The lock that says one state directory, one program: kept by the kernel, so that it ends with
 * its owner in whatever way that ends, and two can never hold it.
 */
import { constants } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { launch } from "./command.ts";
import { fail } from "./errors.ts";
import { processStart, readTextIfAny, spaceError } from "./files.ts";

/** flock(1): exit status where another has the lock. */
const HELD_BY_ANOTHER = 1;

/**
 * Takes the lock file `path` for this process, until the handle is disposed or the process ends:
 * flock(2), asked for by flock(1) on a descriptor of ours. Children do not inherit it. The file
 * stays; its text (pid and start time) is for the message alone. Throws `state-in-use`, naming
 * the owner.
 */
export async function lockFile(path: string, what: string): Promise<AsyncDisposable> {
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o644);
  try {
    // The lock belongs to the open file, which the short-lived child shares with us.
    const stdio = ["ignore", "ignore", "ignore", file.fd] as const;
    const child = launch("flock", ["--exclusive", "--nonblock", "3"], { stdio: [...stdio] });
    const { code } = await child.exited;
    if (code === HELD_BY_ANOTHER) {
      const [pid] = ((await readTextIfAny(path)) ?? "").trim().split(" ");
      fail("state-in-use", `${what} is in use${pid ? ` by process ${pid}` : ""}`, {
        remedy: "stop it first, or choose another state directory with --state",
      });
    }
    if (code !== 0) fail("state-unusable", `${path} cannot be locked: flock ended with ${code}`);
    await file.truncate(0);
    await file.write(`${process.pid} ${await processStart(process.pid)}\n`, 0);
  } catch (error) {
    await file.close();
    throw spaceError(path, error);
  }
  return { [Symbol.asyncDispose]: () => file.close() };
}
