/**
 * Configuration and layout as the server uses them: read together, checked whole, with every
 * path made absolute.
 */
import { dirname, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fail } from "../../base/errors.ts";
import { readTextIfAny } from "../../base/files.ts";
import { checkYaml, parseYaml } from "../../base/yaml-file.ts";
import { builtinVotes, loadLayout } from "../../ci/layout/layout.ts";
import type { Layout } from "../../ci/layout/layout.ts";
import type { Globals } from "../../cli/context.ts";
import { configSchema } from "../../model/config.ts";
import type { Config } from "../../model/config.ts";
import type { Places } from "../places.ts";

export type Settings = {
  readonly config: Config;
  /** The file that was read; null: the built-in defaults. */
  readonly file: string | null;
  /** Nobody wrote `server.listen` down. */
  readonly listenIsDefault: boolean;
  readonly layoutDirectory: string;
  /** Throws `bad-layout` with every fault. */
  readLayout(): Promise<Layout>;
  recipeDirectory(recipe: string): string;
};

const program = fileURLToPath(new URL("../../../", import.meta.url));

export async function readSettings(globals: Globals, places: Places): Promise<Settings> {
  const { config, file, value } = await readFile(globals, places);
  const base = file === null ? places.state : dirname(file);
  const absolute = (path: string): string => (isAbsolute(path) ? path : join(base, path));
  const layoutDirectory = absolute(config.server.layout);
  return {
    config,
    file,
    listenIsDefault:
      (value as { server?: { listen?: unknown } } | null)?.server?.listen === undefined,
    layoutDirectory,
    readLayout: () =>
      loadLayout(layoutDirectory, {
        labels: Object.keys(config.nodes.labels),
        connections: Object.keys(config.connections),
        votes: builtinVotes,
      }),
    recipeDirectory: (recipe) =>
      recipe.startsWith("program:")
        ? join(program, recipe.slice("program:".length))
        : absolute(recipe),
  };
}

async function readFile(
  globals: Globals,
  places: Places,
): Promise<{ config: Config; file: string | null; value: unknown }> {
  const candidates = globals.config
    ? [globals.config]
    : [
        join(places.state, "rackyard.yaml"),
        ...(places.isDefault ? ["/etc/rackyard/rackyard.yaml"] : []),
      ];
  for (const file of candidates) {
    const text = await readTextIfAny(file);
    if (text === undefined) continue;
    const yaml = parseYaml(file, text);
    const checked = checkYaml(yaml, configSchema);
    if (checked.value === undefined) {
      fail("bad-config", `${file} is wrong`, { faults: checked.faults });
    }
    return { config: checked.value, file, value: yaml.value };
  }
  return { config: configSchema.parse({}), file: null, value: {} };
}
