/**
 * Configuration and layout as the server uses them: read together, checked whole before anything
 * of them is in force.
 */
import { acceptLayout } from "../../ci/layout/layout.ts";
import type { Layout } from "../../ci/layout/layout.ts";
import { readLayoutFiles } from "../../ci/layout/reader.ts";
import type { LayoutFile } from "../../ci/layout/reader.ts";
import type { Globals } from "../../cli/context.ts";
import { layoutSurroundings, readConfig } from "../config-file.ts";
import type { ConfigFile } from "../config-file.ts";
import type { Places } from "../places.ts";

export type Settings = ConfigFile & {
  /** Nobody wrote `server.listen` down. */
  readonly listenIsDefault: boolean;
  /** The folder's files as they are. Throws `bad-layout` where there is none. */
  readLayoutFiles(): Promise<readonly LayoutFile[]>;
  /** Throws `bad-layout` with every fault. */
  checkLayout(files: readonly LayoutFile[]): Layout;
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
    readLayoutFiles: () => readLayoutFiles(read.layoutDirectory),
    checkLayout: (files) => acceptLayout(files, layoutSurroundings(read.config)),
  };
}
