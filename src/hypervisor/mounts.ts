/**
 * What is mounted below a directory, as this process' mount namespace has it, and its undoing.
 * A tree is removed only after that: nothing shall be removed through a mount.
 */
import { readFile } from "node:fs/promises";
import { run } from "../base/command.ts";

/** Mount points below the directory's real path, in the order of mounting. */
export async function mountsBelow(directory: string): Promise<string[]> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return lines
    .map((line) => (line.split(" ")[4] ?? "").replaceAll("\\040", " "))
    .filter((mount) => mount.startsWith(`${directory}/`));
}

/** Undoes them, the last one first; gives those that it undid or tried to. */
export async function unmountBelow(directory: string): Promise<string[]> {
  const mounts = await mountsBelow(directory);
  for (const mount of mounts.toReversed()) await run("umount", ["-l", mount], { accept: "any" });
  return mounts;
}
