/**
 * The house as data: architecture.md §1 "Who may import whom", written once. A folder may import
 * itself, what stands here, and `node:` modules (pure code: none of those that act). Rules that
 * read this are in imports.ts and calls.ts.
 */

export type Folder = {
  /** Folders (`base`) or files (`base/assert.ts`) under src/. */
  readonly may: readonly string[];
  readonly packages: readonly string[];
};

/** Foreign data is checked where it comes in: docs/decisions/import-table.md. */
const schema = ["zod"];

/** What pure code may take from `base`: no clock, no randomness, no I/O in them. */
const pureBase = ["base/assert.ts", "base/ids.ts"];
const protocol: Folder = { may: ["base"], packages: schema };
const stage = ["model", "base", "store"];
const racksAndNodes = ["hypervisor", "session", "image", "ssh", "store", "model", "base"];

export const folders: Readonly<Record<string, Folder>> = {
  base: { may: [], packages: ["pino", "yaml", "zod"] },
  model: { may: pureBase, packages: ["zod"] },
  gearman: protocol,
  redfish: { may: ["base"], packages: [...schema, "hono"] },
  ipmi: protocol,
  git: protocol,
  ssh: protocol,
  gerrit: { may: ["ssh", "base"], packages: schema },
  openstack: protocol,
  libvirt: { may: ["base"], packages: [...schema, "@xmldom/xmldom"] },
  openvswitch: protocol,
  dnsmasq: protocol,
  image: protocol,
  store: { may: ["model", "base"], packages: [...schema, "kysely", "pg"] },
  session: { may: ["model", "base"], packages: [...schema, "ws"] },
  "lease/ledger": { may: ["model", ...pureBase], packages: [] },
  "lease/broker": { may: ["lease/ledger", "session", "store", "model", "base"], packages: schema },
  "lease/lockenv": { may: ["lease/broker", "gearman", "model", "base"], packages: schema },
  "lease/holder": { may: ["model", "base"], packages: schema },
  hypervisor: {
    may: ["libvirt", "openvswitch", "dnsmasq", "image", "openstack", "model", "base"],
    packages: schema,
  },
  bmc: { may: ["redfish", "ipmi", "model", "base"], packages: schema },
  testenv: { may: [...racksAndNodes, "bmc"], packages: schema },
  nodehost: { may: racksAndNodes, packages: schema },
  review: { may: ["gerrit", "git", "store", "model", "base"], packages: schema },
  "ci/layout": { may: stage, packages: [...schema, "re2js"] },
  "ci/pipeline": { may: stage, packages: [] },
  "ci/trigger": { may: [...stage, "review"], packages: schema },
  "ci/report": { may: [...stage, "review"], packages: schema },
  "ci/merger": { may: [...stage, "git", "review"], packages: schema },
  "ci/nodepool": { may: [...stage, "session", "openstack", "ssh"], packages: schema },
  "ci/builds": { may: [...stage, "lease/holder"], packages: schema },
  "ci/executor": { may: [...stage, "ssh", "git"], packages: schema },
  "ci/archive": { may: stage, packages: schema },
  /** scheduler.ts joins the stages, which never import each other, by the ports they have. */
  ci: { may: [...stage, "ci", "*-port.ts"], packages: schema },
  api: {
    may: ["model", "base"],
    packages: [...schema, "hono", "@hono/node-server", "@hono/zod-openapi"],
  },
  cli: {
    may: ["api/client.ts", "lease/holder", "model", "base"],
    packages: [...schema, "commander"],
  },
  /** All but `sim`; see mainSimulator. */
  main: { may: ["*"], packages: [...schema, "prom-client"] },
  /** The demo is a client like any other. */
  "main/demo": { may: ["cli", "api/client.ts", "model", "base"], packages: schema },
  /**
   * Ports, codecs, `model`, `base`, and what is simulated as it is: the programs of lease.md §8
   * (docs/decisions/import-table.md).
   */
  sim: {
    may: [
      "*-port.ts",
      "codec",
      "lease/broker",
      "lease/ledger",
      "session",
      "testenv",
      "store/store.ts",
    ].concat(["model", "base"]),
    packages: schema,
  },
};

/** The stages of a build are joined by these shapes: any stage may import them as types. */
export const stageShapes = "src/ci/builds/build-ports.ts";

/** The one program that may import `sim`. */
export const mainSimulator = "src/main/sim/command.ts";

/** `ci/scheduler.ts` and the folder `ci` itself: order only. */
export const schedulerLines = 300;

/** Where a program begins; nobody imports these. */
export const entryPoints = ["src/main/rackyard.ts"];

/**
 * Stand-alone programs, copied to `<state>/bin` or into a guest: they use `node:` only, and are
 * found by `new URL("./name.ts", import.meta.url)`.
 */
export const programs = ["src/testenv/gate-program.ts", "src/review/builtin/receive-hook.ts"];

/** Packages that any test may use beside what its folder may. */
export const testPackages = ["vitest", "fast-check"];

const pureFolders = ["src/model/", "src/lease/ledger/", "src/ci/pipeline/"];

/** No clock, randomness, timers, I/O, async: time comes in as a value, effects go out as values. */
export function isPure(path: string): boolean {
  if (isTest(path)) return false;
  const name = fileName(path);
  if (/^(?:plan|codec)\.ts$/.test(name) || /-(?:plan|codec)\.ts$/.test(name)) return true;
  return pureFolders.some((folder) => path.startsWith(folder));
}

/** What pure code may take from Node: modules that only compute. */
export const pureNode = ["node:crypto", "node:buffer", "node:path/posix", "node:util"];

export const isTest = (path: string): boolean =>
  path.endsWith(".test.ts") || path.startsWith("test/");
export const isPort = (path: string): boolean => path.endsWith("-port.ts");
export const isCodec = (path: string): boolean => /(?:^|[/-])codec\.ts$/.test(path);
export const fileName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

/** The row of the table that a file under src/ belongs to: the longest folder that holds it. */
export function folderOf(path: string): string | undefined {
  let folder = path.replace(/^src\//, "");
  if (folder === "main/demo.ts") return "main/demo";
  while (folder.includes("/")) {
    folder = folder.slice(0, folder.lastIndexOf("/"));
    if (folders[folder]) return folder;
  }
  return undefined;
}
