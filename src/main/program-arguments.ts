/**
 * The command line of a program of ours, as Node runs it: the same options that were given to
 * whoever starts it. Every Node is started without SIGUSR1's debugger (surface.md §1).
 */
import { fileURLToPath } from "node:url";
import type { Globals } from "../cli/context.ts";

const entry = fileURLToPath(new URL("./rackyard.ts", import.meta.url));

export function programArguments(program: string, globals: Globals): string[] {
  return [
    "--disable-sigusr1",
    "--disable-warning=ExperimentalWarning",
    entry,
    ...program.split(" "),
    "--state",
    globals.state,
    ...(globals.config === undefined ? [] : ["--config", globals.config]),
    ...globals.set.flatMap((assignment) => ["--set", assignment]),
  ];
}
