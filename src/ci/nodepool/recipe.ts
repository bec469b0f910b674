/**
 * An image's recipe as it travels to the host: its files with digests (lease.md §6, ≤ 1 MiB),
 * and one digest over all of them, by which a built image is found again.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { fail } from "../../base/errors.ts";
import { sha256Hex } from "../../base/ids.ts";
import { limits } from "../../base/limits.ts";

export type RecipeFile = {
  readonly path: string;
  readonly mode: number;
  readonly sha256: string;
  readonly contentBase64: string;
};
export type Recipe = { readonly digest: string; readonly files: readonly RecipeFile[] };

/** Reads a recipe's folder. Throws `bad-config` where it is missing, empty or too large. */
export async function readRecipe(image: string, directory: string): Promise<Recipe> {
  let entries;
  try {
    entries = await readdir(directory, { recursive: true, withFileTypes: true });
  } catch (error) {
    fail("bad-config", `nodes.images.${image}.recipe: ${directory} cannot be read`, {
      cause: error,
      remedy: "name the folder that holds the recipe's `build` program",
    });
  }
  const files: RecipeFile[] = [];
  let total = 0;
  for (const entry of entries.filter((candidate) => candidate.isFile())) {
    const path = join(entry.parentPath, entry.name);
    const content = await readFile(path);
    total += content.length;
    if (total > limits.imageRecipeBytes) {
      fail("bad-config", `nodes.images.${image}.recipe: over ${limits.imageRecipeBytes} bytes`);
    }
    files.push({
      path: relative(directory, path),
      mode: (await stat(path)).mode & 0o777,
      sha256: sha256Hex(content),
      contentBase64: content.toString("base64"),
    });
  }
  if (!files.some((file) => file.path === "build" && (file.mode & 0o100) !== 0)) {
    fail("bad-config", `nodes.images.${image}.recipe: ${directory} has no executable \`build\``);
  }
  files.sort((x, y) => (x.path < y.path ? -1 : 1));
  return { digest: recipeDigest(files), files };
}

/** What decides whether two recipes are the same: paths, executable bits, contents. */
export function recipeDigest(files: readonly RecipeFile[]): string {
  const lines = files.map((f) => `${f.path}\0${(f.mode & 0o100) === 0 ? "-" : "x"}\0${f.sha256}\n`);
  return sha256Hex(lines.join(""));
}
