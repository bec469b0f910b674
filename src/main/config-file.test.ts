import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { z } from "zod";
import { isRackyardError } from "../base/errors.ts";
import { checkConfigVerb } from "../cli/check-config.ts";
import { contextOf, globalsOf } from "../cli/context.ts";
import { configSchema } from "../model/config.ts";
import { checkConfig, readConfig } from "./config-file.ts";

let state: string;
beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), "rackyard-config-"));
});
afterEach(() => rm(state, { recursive: true }));

const write = async (name: string, text: string): Promise<string> => {
  await writeFile(join(state, name), text);
  return join(state, name);
};
const read = (more: { config?: string; set?: string[] } = {}) =>
  readConfig({ state, isDefault: false, ...more });
const faultsOf = async (more: { config?: string; set?: string[] } = {}): Promise<string[]> => {
  const error: unknown = await read(more).catch((e: unknown) => e);
  if (!isRackyardError(error, "bad-config")) throw error;
  expect(error.exitCode).toBe(78);
  return error.faults.map((fault) => `${fault.pointer.replace(`${state}/`, "")} ${fault.detail}`);
};

test("surface §3 no file is a whole configuration; paths are the state directory's", async () => {
  const { config, file, layoutDirectory, absolute } = await read();
  expect(file).toBeNull();
  expect(config.server.listen).toEqual(["127.0.0.1:7225"]);
  expect(layoutDirectory).toBe(join(state, "layout"));
  expect(absolute("program:images/debian-12")).toMatch(/\/images\/debian-12$/);
});

test("surface §3 --config comes before the state's own file; paths are the file's", async () => {
  await write("rackyard.yaml", "archive: { keepDays: 3 }\n");
  await mkdir(join(state, "etc"));
  const other = await write("etc/other.yaml", "archive: { keepDays: 7 }\nserver: { layout: l }\n");
  expect((await read()).config.archive.keepDays).toBe(3);
  const chosen = await read({ config: other });
  expect(chosen.config.archive.keepDays).toBe(7);
  expect(chosen.layoutDirectory).toBe(join(state, "etc/l"));
  await expect(read({ config: join(state, "none.yaml") })).rejects.toMatchObject({
    code: "bad-config",
  });
});

test("surface §2 --set stands above the file, for every key, in YAML", async () => {
  await write("rackyard.yaml", "archive: { keepDays: 3, maxGiB: 9 }\n");
  const set = [
    "archive.keepDays=5",
    'server.listen=["127.0.0.1:0"]',
    "teHost.kinds.two.machines.count=3",
  ];
  const { config, given } = await read({ set });
  expect(config.archive).toMatchObject({ keepDays: 5, maxGiB: 9 });
  expect(config.server.listen).toEqual(["127.0.0.1:0"]);
  expect(config.teHost.kinds["two"]?.machines).toMatchObject({ count: 3, memoryMiB: 256 });
  expect(given).toMatchObject({ server: { listen: ["127.0.0.1:0"] } });
});

test("surface §2 --set below a default changes that one key of it", async () => {
  const set = ["nodes.labels.worker.minReady=0", "teHost.kinds.two.machines.count=3"];
  const { config } = await read({ set });
  expect(config.nodes.labels["worker"]).toMatchObject({ image: "debian-12", minReady: 0 });
  expect(config.teHost.kinds["two"]?.machines).toMatchObject({ count: 3, memoryMiB: 256 });
});

test("surface §7 all faults at once, with line and column; those of --set say so", async () => {
  await write(
    "rackyard.yaml",
    `server:
  listen: [ nowhere ]
  lisen: x
archive: { keepDays: soon }
nodes:
  labels: { worker: { image: debian-13 } }
  providers: { here: { driver: te-host, labels: [ big ] } }
`,
  );
  expect(await faultsOf({ set: ["leases.graceSeconds=0", "nonsense", "archive.keepDays.x=1"] }))
    .toMatchInlineSnapshot(`
      [
        "--set nonsense must be key=value, e.g. server.anonymousRead=off",
        "--set archive.keepDays.x=1 archive.keepDays is no map",
        "rackyard.yaml:2:13 server.listen.0: must be address:port, found "nowhere"",
        "rackyard.yaml:3:3 server.lisen: unknown key; allowed: listen, url, layout, anonymousRead, nodesDoorPort, insecure",
        "rackyard.yaml:4:22 archive.keepDays: must be a number, found "soon"",
        "--set leases.graceSeconds leases.graceSeconds: must be at least 1, found 0",
      ]
    `);
  await write(
    "rackyard.yaml",
    `nodes:
  labels: { worker: { image: debian-13 } }
  providers: { here: { driver: te-host, labels: [ big ] } }
`,
  );
  expect(await faultsOf()).toMatchInlineSnapshot(`
    [
      "rackyard.yaml:2:30 nodes.labels.worker.image: there is no image debian-13; there are: debian-12",
      "rackyard.yaml:3:51 nodes.providers.here.labels.0: there is no node label big; there are: worker",
    ]
  `);
  await write("rackyard.yaml", "server: [\n");
  expect((await faultsOf())[0]).toMatch(/^rackyard\.yaml:\d+:\d+ /);
});

test("check-config reads the layout too; a new installation has none yet", async () => {
  expect(await checkConfig({ state, isDefault: false })).toMatchObject({
    layout: null,
    faults: [],
  });
  await mkdir(join(state, "layout"));
  await writeFile(join(state, "layout/a.yaml"), "- job: { name: a, runn: x }\n");
  const checked = await checkConfig({ state, isDefault: false });
  expect(checked.faults).toMatchObject([
    { pointer: join(state, "layout/a.yaml:1:19"), code: "unknown-key" },
  ]);
});

test("check-config a layout folder that a configuration names must be there", async () => {
  const config = await write("c.yaml", "server: { layout: ./nowhere }\n");
  const { faults } = await checkConfig({ state, isDefault: false, config });
  expect(faults).toMatchObject([{ pointer: join(state, "nowhere"), code: "bad-layout" }]);
  const other = await write("o.yaml", "archive: { keepDays: 3 }\n");
  expect(await checkConfig({ state, isDefault: false, config: other })).toMatchObject({
    layout: null,
    faults: [],
  });
});

test("surface §2 check-config: exit 0 and counts, or 78 and a line a fault", async () => {
  const printed: string[] = [];
  const stream = { write: (text: string | Uint8Array) => printed.push(String(text)) };
  const streams = { stdout: stream, stderr: stream };
  const verb = checkConfigVerb(() => Promise.resolve(checkConfig));
  const run = (options: object, ...args: string[]) => {
    const globals = globalsOf({ state, ...options }, {});
    const context = contextOf(globals, {}, new AbortController().signal, streams);
    return verb.run(context, { args, options: {}, rest: [] });
  };
  expect(await run({})).toBe(0);
  expect(printed.splice(0).join("")).toMatch(/^built-in defaults: right\nno layout yet: 0 pipe/);
  const file = await write("c.yaml", "server: { listn: x }\n");
  expect(await run({}, file)).toBe(78);
  expect(printed.splice(0).join("")).toMatch(/c\.yaml:1:11: server\.listn: unknown key/);
  expect(await run({ json: true }, file)).toBe(78);
  expect(JSON.parse(printed.join(""))).toMatchObject({ event: "check-config", ok: false, file });
});

type Shape = {
  properties?: Record<string, Shape>;
  additionalProperties?: Shape | boolean;
  default?: unknown;
};

/** Every key of the schema that holds a value, `NAME` for names that people choose. */
function keysOf(shape: Shape, path: string): [key: string, standard: string][] {
  if (shape.properties) {
    return Object.entries(shape.properties).flatMap(([key, inner]) =>
      keysOf(inner, path === "" ? key : `${path}.${key}`),
    );
  }
  if (typeof shape.additionalProperties === "object") {
    return keysOf(shape.additionalProperties, `${path}.NAME`);
  }
  return [[path, shape.default === undefined ? "" : JSON.stringify(shape.default)]];
}

test("docs/config.md has a row for every key, with its default", async () => {
  const schema = z.toJSONSchema(configSchema, { io: "input" }) as Shape;
  const text = await readFile(new URL("../../docs/config.md", import.meta.url), "utf8");
  const rows = [...text.matchAll(/^\| `([\w.]+)` \|[^|]*\|([^|]*)\|/gm)];
  const told = rows.map((row): [string, string] => [row[1]!, row[2]!.trim().replaceAll("`", "")]);
  const bare = ([key, standard]: [string, string]): string =>
    `${key} ${standard.replaceAll('"', "")}`;
  expect(told.map(bare)).toEqual(keysOf(schema, "").map(bare));
});

test("surface §7 a mistyped key or name of the configuration: what is there, what was meant", async () => {
  await write(
    "rackyard.yaml",
    "server: { lisen: x }\nnodes: { images: {}, labels: { w: { imagee: y, image: z } } }\n",
  );
  const { faults } = await checkConfig({ state, isDefault: false });
  expect(faults).toContainEqual(
    expect.objectContaining({
      pointer: `${state}/rackyard.yaml:1:11`,
      detail: expect.stringMatching(/^server.lisen: unknown key; allowed: listen, url, /) as string,
      remedy: "did you mean listen?",
    }),
  );
  expect(faults).toContainEqual(expect.objectContaining({ remedy: "did you mean image?" }));
  await write("rackyard.yaml", "nodes: { labels: { w: { image: debian-21 } } }\n");
  expect((await checkConfig({ state, isDefault: false })).faults).toContainEqual(
    expect.objectContaining({ code: "unknown-image", remedy: "did you mean debian-12?" }),
  );
});

test("surface §4 check-config refuses the listener that a server refuses", async () => {
  await write(
    "rackyard.yaml",
    'server: { listen: ["127.0.0.1:1", "0.0.0.0:7225", "[::1]:70000"] }\n',
  );
  expect(await faultsOf()).toEqual([
    "rackyard.yaml:1:35 server.listen[1]: 0.0.0.0:7225 can be reached from elsewhere, without TLS",
    "rackyard.yaml:1:51 server.listen[2]: [::1]:70000: there is no port 70000",
  ]);
  const open = { set: ["server.insecure=true", 'server.listen=["0.0.0.0:7225"]'] };
  expect((await read(open)).config.server.listen).toEqual(["0.0.0.0:7225"]);
});

test.each([
  ["http://127.0.0.1:7225/", "http://127.0.0.1:7225"],
  ["https://ci.example/rackyard//", "https://ci.example/rackyard"],
])("case url-with-a-slash: server.url %s is %s", async (given, url) => {
  expect((await read({ set: [`server.url=${given}`] })).config.server.url).toBe(url);
});

test.each(["ftp://ci.example", "http://ci.example/?a", "http://ci.example/#a", "ci.example"])(
  "surface §7 server.url %s is refused",
  async (given) => {
    expect(await faultsOf({ set: [`server.url="${given}"`] })).toHaveLength(1);
  },
);

test("case yaml-by-hand: layout files that nobody reads are told", async () => {
  await mkdir(join(state, "layout/zuul.d"), { recursive: true });
  expect((await checkConfig({ state, isDefault: false })).faults).toEqual([]);
  await write("layout/zuul.d/jobs.yaml", "- job: { name: a }\n");
  expect((await checkConfig({ state, isDefault: false })).faults).toEqual([
    expect.objectContaining({
      detail: `${state}/layout/zuul.d is not read: the layout is the files of one folder`,
    }),
  ]);
  await rm(join(state, "layout/zuul.d"), { recursive: true });
  await write("layout/.zuul.yaml", "- job: { name: a }\n");
  expect((await checkConfig({ state, isDefault: false })).faults).toHaveLength(1);
});

test("case project-names: names that others have are right, others told with their place", async () => {
  await mkdir(join(state, "layout"));
  const names = ["platform/prebuilts/gcc/linux-x86/host/glibc-4.8", "_infra/x"];
  const wrong = ["a..b", "foo.lock", "x.git/y", "-a", "a//b"];
  const lines = [...names, ...wrong].map((name) => `- project: { name: ${name} }\n`);
  await write("layout/projects.yaml", lines.join(""));
  const { faults } = await checkConfig({ state, isDefault: false });
  expect(faults.map(({ pointer }) => pointer.replace(`${state}/layout/`, ""))).toEqual(
    wrong.map((_, n) => `projects.yaml:${n + 3}:20`),
  );
});
