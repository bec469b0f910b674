/**
 * The example's projects and layout in a yard, as its README says, for tests that need a job
 * which boots a whole rack.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Yard } from "./yard.ts";

export const exampleDirectory = join(import.meta.dirname, "../../examples/tinyrack");
export const exampleProjects = ["tinyrack-seed", "tinyrack-node", "tinyrack-deploy"];

export async function bringExample(yard: Yard): Promise<void> {
  const layout = await readFile(join(exampleDirectory, "layout.yaml"), "utf8");
  const reloaded = await yard.layout("tinyrack.yaml", layout);
  if (reloaded.exitCode !== 0) throw new Error(reloaded.stderr);
  for (const project of exampleProjects) {
    await yard.content(project, join(exampleDirectory, project));
  }
}
