/**
 * Puts git's hooks in place: the receive program under `<bin>` and, in `<bin>/git-hooks`, the
 * two names git calls. Written at each start, so that they are those of this version.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../base/files.ts";

export type HookKind = "pre-receive" | "proc-receive";
export const hookKinds: readonly HookKind[] = ["pre-receive", "proc-receive"];

/** Gives the folder for git's `core.hooksPath`. `node`: the Node that runs the program. */
export async function installHooks(binDirectory: string, node: string): Promise<string> {
  const source = await readFile(new URL("./receive-hook.ts", import.meta.url), "utf8");
  // .mts: a module whatever lies in the folders above it
  const program = join(binDirectory, "receive-hook.mts");
  await writeFileAtomic(program, source);
  const hooks = join(binDirectory, "git-hooks");
  for (const kind of hookKinds) {
    const command = [node, "--disable-sigusr1", program, kind].map(quote).join(" ");
    // git's address-space limit (git-command.ts) is not meant for a Node
    const script = `#!/bin/sh\nulimit -S -v "$(ulimit -H -v)"\nexec ${command}\n`;
    await writeFileAtomic(join(hooks, kind), script, 0o755);
  }
  return hooks;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
