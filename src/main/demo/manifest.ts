/**
 * `examples/demo.yaml`: what the demo shows. Nothing of the example is known to the program but
 * through this file.
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { fail } from "../../base/errors.ts";
import { checkYaml, parseYaml } from "../../base/yaml-file.ts";

const change = z.strictObject({ project: z.string(), patch: z.string(), subject: z.string() });
const schema = z.strictObject({
  projects: z.array(z.strictObject({ name: z.string(), path: z.string() })).min(1),
  layout: z.string(),
  good: change,
  broken: change,
});

export type DemoChange = z.output<typeof change>;
export type DemoManifest = z.output<typeof schema>;

const file = fileURLToPath(new URL("../../../examples/demo.yaml", import.meta.url));

/** With absolute paths. */
export async function readManifest(path: string = file): Promise<DemoManifest> {
  const { value, faults } = checkYaml(parseYaml(path, await readFile(path, "utf8")), schema);
  if (!value) return fail("bad-config", `${path} is wrong`, { faults });
  const absolute = (name: string): string => join(dirname(path), name);
  return {
    projects: value.projects.map(({ name, path: at }) => ({ name, path: absolute(at) })),
    layout: absolute(value.layout),
    good: { ...value.good, patch: absolute(value.good.patch) },
    broken: { ...value.broken, patch: absolute(value.broken.patch) },
  };
}
