/**
 * Reads the files of a layout folder into items, each checked against its schema and each value
 * with its place. All faults of all files at once: file, line, column, the key's path, what was
 * found, what is allowed (surface.md §7). What items say about each other: checks.ts.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { z } from "zod";
import { fail } from "../../base/errors.ts";
import type { FieldFault } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { nearest } from "../../base/nearest.ts";
import { schemaWords } from "../../base/schema-words.ts";
import { faultAt, parseYaml } from "../../base/yaml-file.ts";
import type { Place, YamlFile } from "../../base/yaml-file.ts";
import {
  jobSchema,
  nodesetSchema,
  overrideSchema,
  pipelineSchema,
  projectSchema,
} from "./items.ts";
import type { JobItem, JobOverride, NodesetItem, PipelineItem } from "./items.ts";
import { keyFault, keyTable } from "./keys.ts";
import type { KeyPlace } from "./keys.ts";

export type Path = readonly PropertyKey[];

/** An item and where its parts stand. */
export type Located<T> = {
  readonly value: T;
  readonly placeOf: (path: Path, key?: boolean) => Place;
};

export type JobUse = {
  readonly job: string;
  readonly override: JobOverride | undefined;
  readonly place: Place;
};
export type ProjectItem = {
  readonly name: string;
  readonly pipelines: readonly {
    readonly name: string;
    readonly place: Place;
    readonly jobs: readonly JobUse[];
  }[];
};

export type Items = {
  readonly pipelines: Located<PipelineItem>[];
  readonly jobs: Located<JobItem>[];
  readonly nodesets: Located<NodesetItem>[];
  readonly projects: Located<ProjectItem>[];
  readonly faults: FieldFault[];
  /** Names of items that are wrong in themselves: others may name them without a second fault. */
  readonly broken: Readonly<Record<"pipeline" | "job" | "nodeset" | "project", string[]>>;
};

/** Checked items by name: what jobs are frozen from. */
export type Definitions = {
  readonly jobs: ReadonlyMap<string, Located<JobItem>>;
  readonly nodesets: ReadonlyMap<string, Located<NodesetItem>>;
  readonly projects: ReadonlyMap<string, Located<ProjectItem>>;
};

export type LayoutFile = { readonly file: string; readonly text: string };

/** The folder's `*.yaml` and `*.yml`, by name; throws `bad-layout` where there is none. */
export async function readLayoutFiles(directory: string): Promise<LayoutFile[]> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    return fail("bad-layout", `the layout folder ${directory} cannot be read`, { cause: error });
  }
  const wanted = names.filter((name) => /^[^.].*\.ya?ml$/.test(name)).sort();
  await refuseUnread(directory, names);
  if (wanted.length > limits.layoutFiles) {
    fail("bad-layout", `${directory}: more than ${limits.layoutFiles} files`);
  }
  return Promise.all(
    wanted.map(async (name) => {
      const file = join(directory, name);
      const text = await readFile(file, "utf8");
      if (text.length > limits.layoutFileBytes) {
        fail("bad-layout", `${file} is larger than ${limits.layoutFileBytes} bytes`);
      }
      return { file, text };
    }),
  );
}

/**
 * Zuul reads `zuul.d/` and `.zuul.yaml` of a repository; this folder is read flat. Files that
 * people put there and nobody reads would be missed at the first change only.
 */
async function refuseUnread(directory: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const path = join(directory, name);
    if (name.startsWith(".") && !/^\.zuul\.(?:d|ya?ml)$/.test(name)) continue;
    if (name.startsWith(".") && name.endsWith("ml")) refuse(path);
    const inside = await readdir(path).catch(() => []); // no folder
    if (inside.some((file) => /\.ya?ml$/.test(file))) refuse(path);
  }
  function refuse(path: string): never {
    const remedy = `move it into ${directory} itself, under a name without a dot in front`;
    return fail("bad-layout", `${path} is not read: the layout is the files of one folder`, {
      remedy,
    });
  }
}

export function readItems(files: readonly LayoutFile[]): Items {
  const items: Items = {
    pipelines: [],
    jobs: [],
    nodesets: [],
    projects: [],
    faults: [],
    broken: { pipeline: [], job: [], nodeset: [], project: [] },
  };
  for (const { file, text } of files)
    readFileItems(parseYaml(file, text, { refuseAmbiguous: true }), items);
  return items;
}

function readFileItems(yaml: YamlFile, items: Items): void {
  items.faults.push(...yaml.faults);
  if (yaml.faults.length > 0 || yaml.value === null || yaml.value === undefined) return;
  if (!Array.isArray(yaml.value)) {
    const detail = `the file: must be a list of items, found ${shown(yaml.value)}`;
    items.faults.push(faultAt(yaml.placeOf([]), "invalid-type", detail));
    return;
  }
  for (const [index, item] of yaml.value.entries()) readItem(yaml, index, item as unknown, items);
}

function readItem(yaml: YamlFile, index: number, item: unknown, items: Items): void {
  const kinds = keyTable[""].known;
  if (typeof item !== "object" || item === null || Object.keys(item).length !== 1) {
    const one = kinds.join(", ");
    const detail = `item ${index + 1}: must have one key of ${one}, found ${shown(item)}`;
    items.faults.push(faultAt(yaml.placeOf([index]), "invalid-item", detail));
    return;
  }
  const [kind, value] = Object.entries(item)[0]!;
  const at: Path = [index, kind];
  const check = <S extends z.ZodType>(schema: S, into: Located<z.output<S>>[]): void => {
    const parsed = checkValue(yaml, at, value, schema, items.faults);
    if (parsed) into.push({ value: parsed.value, placeOf: placeIn(yaml, at) });
    else noteBroken(items, kind, value);
  };
  switch (kind) {
    case "pipeline":
      return check(pipelineSchema, items.pipelines);
    case "job":
      return check(jobSchema, items.jobs);
    case "nodeset":
      return check(nodesetSchema, items.nodesets);
    case "project":
      return readProject(yaml, at, value, items);
    default:
      items.faults.push(keyFault("", kind, `item ${index + 1}`, yaml.placeOf(at, true)));
  }
}

function readProject(yaml: YamlFile, at: Path, value: unknown, items: Items): void {
  const named: Record<string, unknown> = {};
  for (const [key, part] of Object.entries(value ?? {})) {
    if ((keyTable.project.later as readonly string[]).includes(key)) {
      items.faults.push(
        keyFault("project", key, `project.${key}`, yaml.placeOf([...at, key], true)),
      );
    } else named[key] = part;
  }
  const parsed = checkValue(yaml, at, named, projectSchema, items.faults);
  if (!parsed) return noteBroken(items, "project", value);
  const { name, description: _, ...pipelines } = parsed.value;
  items.projects.push({
    placeOf: placeIn(yaml, at),
    value: {
      name,
      pipelines: Object.entries(pipelines).map(([pipeline, { jobs }]) => ({
        name: pipeline,
        place: yaml.placeOf([...at, pipeline], true),
        jobs: jobs.map((use, index) => {
          const path = [...at, pipeline, "jobs", index];
          const place = yaml.placeOf(path);
          if (use.override === undefined || use.override === null) {
            return { job: use.job, override: undefined, place };
          }
          const inside = [...path, use.job];
          const override = checkValue(yaml, inside, use.override, overrideSchema, items.faults);
          return { job: use.job, override: override?.value, place };
        }),
      })),
    },
  });
}

function noteBroken(items: Items, kind: string, value: unknown): void {
  const name: unknown = (value as { name?: unknown } | null)?.name;
  if (typeof name === "string") items.broken[kind as keyof Items["broken"]].push(name);
}

function placeIn(yaml: YamlFile, at: Path): (path: Path, key?: boolean) => Place {
  return (path, key) => yaml.placeOf([...at, ...path], key);
}

function checkValue<S extends z.ZodType>(
  yaml: YamlFile,
  at: Path,
  value: unknown,
  schema: S,
  faults: FieldFault[],
): { value: z.output<S> } | undefined {
  const result = schema.safeParse(value);
  if (result.success) return { value: result.data };
  for (const issue of result.error.issues) faults.push(...issueFaults(yaml, at, value, issue));
  return undefined;
}

function issueFaults(
  yaml: YamlFile,
  at: Path,
  value: unknown,
  issue: z.core.$ZodIssue,
): FieldFault[] {
  if (issue.code === "invalid_union") {
    // The branch that the writer meant: the one whose outermost type fits.
    const meant = issue.errors.filter(
      (branch) =>
        !branch.some((part) => part.path.length === 0 && part.code === "invalid_type") &&
        branch.length > 0,
    );
    if (meant.length === 1) {
      return meant[0]!.flatMap((part) => {
        const path = [...issue.path, ...part.path];
        return issueFaults(yaml, at, value, { ...part, path });
      });
    }
  }
  const path = [...at, ...issue.path];
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const where = [...path, key];
      return keyFault(keyPlace(path), key, pathText(where), yaml.placeOf(where, true));
    });
  }
  const found = valueAt(value, issue.path);
  const custom = issue.code === "custom" ? (issue.params?.["code"] as unknown) : undefined;
  const code = typeof custom === "string" ? custom : fieldCode(issue.code);
  const near = typeof found === "string" && code === "unknown-value" ? nearestValue(issue) : "";
  return [
    faultAt(
      yaml.placeOf(path),
      found === undefined ? "missing-key" : code,
      `${pathText(path)}: ${schemaWords(issue)}, found ${shown(found)}`,
      near || undefined,
    ),
  ];
  function nearestValue(of: z.core.$ZodIssue): string {
    const allowed = /allowed: (.*)$/.exec(of.message)?.[1]?.split(", ") ?? [];
    const best = nearest(String(found), allowed);
    return best === undefined ? "" : `did you mean ${best}?`;
  }
}

function fieldCode(code: string): string {
  return code === "custom" || code === "invalid_union" ? "bad-value" : code.replaceAll("_", "-");
}

/** Which row of the key table a path belongs to: names that people choose are left out. */
function keyPlace(path: Path): KeyPlace {
  const [, kind, ...rest] = path.map(String);
  switch (kind) {
    case "pipeline":
      if (rest.length === 0) return "pipeline";
      return rest[0] === "trigger" ? "pipeline.trigger" : "pipeline.reporter";
    case "nodeset":
      return rest.length === 0 ? "nodeset" : "node";
    case "project":
      if (rest.length === 0) return "project";
      return rest.length === 1 ? "project.pipeline" : jobPlace(rest.slice(4));
    default:
      return jobPlace(rest);
  }
}

function jobPlace(rest: readonly string[]): KeyPlace {
  if (rest[0] === "testenv") return "job.testenv";
  if (rest[0] === "required-projects") return "job.required-projects";
  if (rest[0] === "nodeset") return rest.length === 1 ? "nodeset" : "node";
  return "job";
}

function pathText(path: Path): string {
  return path
    .slice(1)
    .map((step) => (typeof step === "number" ? `[${step}]` : `.${String(step)}`))
    .join("")
    .slice(1);
}

function valueAt(value: unknown, path: Path): unknown {
  let at = value;
  for (const key of path) {
    if (typeof at !== "object" || at === null) return undefined;
    at = (at as Record<PropertyKey, unknown>)[key];
  }
  return at;
}

function shown(value: unknown): string {
  return value === undefined ? "nothing" : JSON.stringify(value).slice(0, 80);
}
