/**
 * Finds and reads `rackyard.yaml` (surface.md §3): `--config`, else the state directory's, else
 * /etc for the default state alone, else the built-in defaults; then `--set key=value` above all.
 * Every fault at once with its place. Paths come out absolute: relative to the file that says
 * them, to the state directory where there is none. Nothing here starts anything.
 */
import { dirname, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import { listenFault, openListenerRemedy } from "../api/listen-address.ts";
import { fail, isRackyardError } from "../base/errors.ts";
import type { FieldFault } from "../base/errors.ts";
import { readTextIfAny } from "../base/files.ts";
import { nearest } from "../base/nearest.ts";
import { checkYaml, faultAt, parseYaml } from "../base/yaml-file.ts";
import type { YamlFile } from "../base/yaml-file.ts";
import { checkLayout, builtinVotes } from "../ci/layout/layout.ts";
import { readLayoutFiles } from "../ci/layout/reader.ts";
import { readRecipe } from "../ci/nodepool/recipe.ts";
import type { Surroundings } from "../ci/layout/checks.ts";
import { configSchema } from "../model/config.ts";
import type { Config } from "../model/config.ts";

export type ConfigWhere = {
  /** Absolute. */
  readonly state: string;
  /** It is the default state directory: /etc counts. */
  readonly isDefault: boolean;
  readonly config?: string | undefined;
  /** `key=value`, the value in YAML. */
  readonly set?: readonly string[];
};

export type ConfigFile = {
  readonly config: Config;
  /** The file that was read; null: the built-in defaults. */
  readonly file: string | null;
  /** As written, defaults left out: tells what somebody chose. */
  readonly given: unknown;
  readonly layoutDirectory: string;
  /** `program:…` is the program's own. */
  readonly absolute: (path: string) => string;
  readonly placeOf: YamlFile["placeOf"];
};

export const etcConfig = "/etc/rackyard/rackyard.yaml";
const program = fileURLToPath(new URL("../../", import.meta.url));

/** Throws `bad-config` with every fault. */
export async function readConfig(where: ConfigWhere): Promise<ConfigFile> {
  const { read, faults } = await tryConfig(where);
  if (read) return read;
  const first = faults[0]!;
  const more = faults.length > 1 ? ` (and ${faults.length - 1} more)` : "";
  return fail(
    "bad-config",
    `the configuration is wrong: ${first.pointer}: ${first.detail}${more}`,
    {
      faults,
      remedy: "docs/config.md names every key; rackyard check-config shows every fault",
    },
  );
}

/** What the layout may name, by this configuration. */
export function layoutSurroundings(config: Config): Surroundings {
  return {
    labels: Object.keys(config.nodes.labels),
    connections: Object.keys(config.connections),
    votes: builtinVotes,
    longestLeaseSeconds: config.leases.maxDurationSeconds,
  };
}

export type CheckedConfig = {
  readonly file: string | null;
  readonly layout: string | null;
  readonly pipelines: number;
  readonly jobs: number;
  readonly projects: number;
  /** Of the configuration, else of the layout. */
  readonly faults: readonly FieldFault[];
};

/** `check-config [FILE]`: the configuration and the layout it names, without a server. */
export async function checkConfig(where: ConfigWhere): Promise<CheckedConfig> {
  const nothing = { layout: null, pipelines: 0, jobs: 0, projects: 0 };
  const { read, faults } = await tryConfig(where);
  if (!read) return { file: where.config ?? null, ...nothing, faults };
  const { file, layoutDirectory } = read;
  const recipes = await recipeFaults(read);
  if (recipes.length > 0) return { file, ...nothing, faults: recipes };
  try {
    const files = await readLayoutFiles(layoutDirectory);
    const checked = checkLayout(files, layoutSurroundings(read.config));
    return {
      file,
      layout: layoutDirectory,
      pipelines: checked.layout.pipelines.size,
      jobs: checked.layout.jobs.size,
      projects: checked.layout.projects.size,
      faults: checked.faults,
    };
  } catch (error) {
    if (!isRackyardError(error, "bad-layout")) throw error;
    // Where nobody names a folder, the first start writes one; one that is named may be a slip.
    const missing = (error.cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT";
    if (missing && !namesLayout(read.given)) return { file, ...nothing, faults: [] };
    const { message: detail, remedy } = error;
    const told = { pointer: layoutDirectory, code: "bad-layout", detail };
    const fault = remedy === undefined ? told : { ...told, remedy };
    return { file, ...nothing, layout: layoutDirectory, faults: [fault] };
  }
}

function namesLayout(given: unknown): boolean {
  const { server } = (given ?? {}) as { readonly server?: { readonly layout?: unknown } };
  return server?.layout !== undefined;
}

/** Recipes are files as the layout is: what a server would refuse is told before it starts. */
async function recipeFaults({ config, absolute, placeOf }: ConfigFile): Promise<FieldFault[]> {
  const faults: FieldFault[] = [];
  for (const [name, { recipe }] of Object.entries(config.nodes.images)) {
    try {
      await readRecipe(name, absolute(recipe));
    } catch (error) {
      if (!isRackyardError(error, "bad-config")) throw error;
      const place = placeOf(["nodes", "images", name, "recipe"]);
      faults.push(faultAt(place, "bad-recipe", error.message, error.remedy));
    }
  }
  return faults;
}

type Tried = { read: ConfigFile; faults: [] } | { read: undefined; faults: FieldFault[] };

async function tryConfig(where: ConfigWhere): Promise<Tried> {
  const found = await findFile(where);
  const yaml = parseYaml(found.file ?? "the defaults", found.text);
  if (yaml.faults.length > 0) return { read: undefined, faults: [...yaml.faults] };
  const setting = applySettings(yaml.value ?? {}, where.set ?? []);
  const located = { ...yaml, value: setting.value, placeOf: placesOf(yaml, setting.paths) };
  const checked = checkYaml(located, configSchema);
  const faults = [...setting.faults, ...checked.faults];
  if (checked.value) {
    faults.push(...namesNotThere(located, checked.value));
    faults.push(...openListeners(located, checked.value));
  }
  if (!checked.value || faults.length > 0) {
    return { read: undefined, faults: faults.map(withoutPlaceOfSetting) };
  }
  const base = found.file === null ? where.state : dirname(found.file);
  const absolute = (path: string): string => {
    if (path.startsWith("program:")) return join(program, path.slice("program:".length));
    return isAbsolute(path) ? path : join(base, path);
  };
  const config = checked.value;
  return {
    read: {
      config,
      file: found.file,
      given: setting.value,
      layoutDirectory: absolute(config.server.layout),
      absolute,
      placeOf: located.placeOf,
    },
    faults: [],
  };
}

async function findFile(where: ConfigWhere): Promise<{ file: string | null; text: string }> {
  const given = where.config;
  const candidates =
    given === undefined
      ? [join(where.state, "rackyard.yaml"), ...(where.isDefault ? [etcConfig] : [])]
      : [given];
  for (const file of candidates) {
    const text = await readTextIfAny(file).catch((error: unknown) =>
      fail("bad-config", `${file} cannot be read`, { cause: error }),
    );
    if (text !== undefined) return { file, text };
  }
  if (given !== undefined) fail("bad-config", `there is no file ${given}`);
  return { file: null, text: "" };
}

type Setting = { value: unknown; paths: string[][]; faults: FieldFault[] };

/** `--set a.b=value`: the value is YAML, so that lists and numbers can be said. */
function applySettings(file: unknown, set: readonly string[]): Setting {
  const value = structuredClone(file);
  const paths: string[][] = [];
  const faults: FieldFault[] = [];
  for (const setting of set) {
    const at = setting.indexOf("=");
    const key = setting.slice(0, Math.max(at, 0));
    const path = key.split(".");
    const fault = (detail: string): void => {
      faults.push({ pointer: `--set ${setting}`, code: "bad-setting", detail });
    };
    if (at < 1 || path.includes("")) {
      fault("must be key=value, e.g. server.anonymousRead=off");
      continue;
    }
    const said = parseYaml(`--set ${key}`, setting.slice(at + 1));
    const problem = said.faults[0]?.detail ?? put(value, path, said.value);
    if (problem === undefined) paths.push(path);
    else fault(problem);
  }
  return { value, paths, faults };
}

/** What stands there by default: a setting below it changes that one key alone. */
function defaultAt(path: readonly string[]): unknown {
  let at: unknown = configSchema.parse({});
  for (const step of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as Record<string, unknown>)[step];
  }
  return structuredClone(at);
}

/** Puts a value in its place; gives what is in the way. */
function put(root: unknown, path: readonly string[], value: unknown): string | undefined {
  let at = root;
  for (const [depth, step] of path.entries()) {
    if (typeof at !== "object" || at === null || Array.isArray(at)) {
      return `${path.slice(0, depth).join(".") || "the file"} is no map`;
    }
    if (step === "__proto__") return `${step} is no key`;
    const map = at as Record<string, unknown>;
    if (depth === path.length - 1) map[step] = value;
    else at = map[step] ??= defaultAt(path.slice(0, depth + 1)) ?? {};
  }
  return undefined;
}

/** A value that the command line set has its place there. */
function placesOf(yaml: YamlFile, paths: readonly string[][]): YamlFile["placeOf"] {
  return (path, key) => {
    const set = paths.find((own) => own.every((step, depth) => String(path[depth]) === step));
    if (set) return { file: `--set ${set.join(".")}`, line: 1, column: 1 };
    return yaml.placeOf(path, key);
  };
}

function withoutPlaceOfSetting(fault: FieldFault): FieldFault {
  if (!fault.pointer.startsWith("--set ")) return fault;
  return { ...fault, pointer: fault.pointer.replace(/:1:1$/, "") };
}

/** What the server would refuse to listen on (surface.md §4). */
function openListeners(yaml: YamlFile, { server }: Config): FieldFault[] {
  return server.listen.flatMap((address, index) => {
    const detail = listenFault(address, server.insecure);
    if (detail === undefined) return [];
    const place = yaml.placeOf(["server", "listen", index]);
    const remedy = openListenerRemedy;
    return [faultAt(place, "open-listener", `server.listen[${index}]: ${detail}`, remedy)];
  });
}

/** One part of the configuration names another that is not there. */
function namesNotThere(yaml: YamlFile, config: Config): FieldFault[] {
  const { images, labels, providers } = config.nodes;
  const faults: FieldFault[] = [];
  const check = (path: (string | number)[], name: string, what: string, known: object): void => {
    if (Object.hasOwn(known, name)) return;
    const there = Object.keys(known).join(", ") || "none";
    const detail = `${path.join(".")}: there is no ${what} ${name}; there are: ${there}`;
    const near = nearest(name, Object.keys(known));
    const remedy = near === undefined ? undefined : `did you mean ${near}?`;
    faults.push(faultAt(yaml.placeOf(path), `unknown-${what.replace(" ", "-")}`, detail, remedy));
  };
  for (const [name, label] of Object.entries(labels)) {
    check(["nodes", "labels", name, "image"], label.image, "image", images);
  }
  for (const [name, provider] of Object.entries(providers)) {
    for (const [index, label] of provider.labels.entries()) {
      check(["nodes", "providers", name, "labels", index], label, "node label", labels);
    }
  }
  return faults;
}
