/**
 * Configuration and layout as the server uses them: read together, checked whole before anything
 * of them is in force.
 */
import { loadLayout } from "../../ci/layout/layout.ts";
import type { Layout } from "../../ci/layout/layout.ts";
import type { Globals } from "../../cli/context.ts";
import { layoutSurroundings, readConfig } from "../config-file.ts";
import type { ConfigFile } from "../config-file.ts";
import type { Places } from "../places.ts";

export type Settings = ConfigFile & {
  /** Nobody wrote `server.listen` down. */
  readonly listenIsDefault: boolean;
  /** Throws `bad-layout` with every fault. */
  readLayout(): Promise<Layout>;
};

/** Throws `bad-config` with every fault. */
export async function readSettings(globals: Globals, places: Places): Promise<Settings> {
  const read = await readConfig({
    state: places.state,
    isDefault: places.isDefault,
    config: globals.config,
    set: globals.set,
  });
  const given = read.given as { server?: { listen?: unknown } } | null;
  return {
    ...read,
    listenIsDefault: given?.server?.listen === undefined,
    readLayout: () => loadLayout(read.layoutDirectory, layoutSurroundings(read.config)),
  };
}
