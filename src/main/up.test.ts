import { mkdirSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch } from "../base/command.ts";
import { silentLog } from "../base/log.ts";
import { until } from "../base/wait.ts";
import { endProcess, lives, readPidFile, writePidFile } from "./pid-file.ts";
import { placesOf } from "./places.ts";
import type { Places } from "./places.ts";
import { chooseListeners } from "./server/ports.ts";
import { keepProgram, refusalOf } from "./supervisor.ts";
import type { Kept } from "./supervisor.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "up-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function freshPlaces(name: string): Promise<Places> {
  return placesOf(await mkdtemp(join(directory, name)));
}

function keep(places: Places, script: string, version = "1"): Kept {
  const args = ["-e", script];
  const onChange = (): void => undefined;
  return keepProgram({ name: "server", args, places, version, log: silentLog, onChange });
}
const stays = "setInterval(() => {}, 1000)";

test("surface.md §1 a program that dies is started again", async () => {
  const places = await freshPlaces("again-");
  const kept = keep(places, stays);
  const stop = new AbortController();
  const running = kept.run(stop.signal);
  const first = await until(() => kept.pid, { timeoutMs: 5_000, what: "the start" });
  kept.served();
  process.kill(first, "SIGKILL");
  const second = await until(() => kept.pid !== first && kept.pid, {
    timeoutMs: 10_000,
    what: "the next start",
  });
  expect(second).not.toBe(first);
  stop.abort();
  await running;
  await kept.end();
  expect(await readPidFile(places.pidFile("server"))).toBeUndefined();
});

test("surface.md §1 a living child of an earlier supervisor is taken over, of another version ended", async () => {
  const places = await freshPlaces("over-");
  const child = launch(process.execPath, ["-e", stays], { stdio: "ignore", daemon: true });
  const owner = await writePidFile(places.pidFile("server"), child.pid, "1");
  const stop = new AbortController();
  const same = keep(places, stays);
  const running = same.run(stop.signal);
  await until(() => same.pid, { timeoutMs: 5_000, what: "the taking over" });
  expect(same.pid).toBe(child.pid);
  stop.abort();
  await running;
  const next = new AbortController();
  const newer = keep(places, stays, "2");
  const again = newer.run(next.signal);
  await until(() => newer.pid, { timeoutMs: 10_000, what: "the new version" });
  expect(newer.pid).not.toBe(child.pid);
  expect(await lives(owner)).toBe(false);
  next.abort();
  await again;
  await newer.end();
});

test("surface.md §2 what a program refuses with before it ever served is not tried again", async () => {
  const places = await freshPlaces("refuse-");
  const script = 'console.error("error: 127.0.0.1:1 is taken (port-taken)"); process.exit(73)';
  const refused = keep(places, script).run(new AbortController().signal);
  await expect(refused).rejects.toMatchObject({
    code: "port-taken",
    exitCode: 73,
    message: "server: 127.0.0.1:1 is taken",
  });
});

test("surface.md §2 wrong places and remedies of a refusal are handed on, for --json too", async () => {
  const places = await freshPlaces("places-");
  mkdirSync(places.log, { recursive: true });
  const said = `starting
error: the configuration is wrong: x.yaml:2:3: server.lisen: unknown key (bad-config)
  x.yaml:2:3: server.lisen: unknown key (unknown-key)
    did you mean listen?
  x.yaml:4:1: nodes: must be a map (invalid-type)
  docs/config.md names every key
`;
  await writeFile(places.outFile("server"), said);
  const refusal = refusalOf(places.outFile("server"), "server", 78);
  expect(refusal).toMatchObject({
    code: "bad-config",
    remedy: "docs/config.md names every key",
    faults: [
      {
        pointer: "x.yaml:2:3",
        code: "unknown-key",
        detail: "server.lisen: unknown key",
        remedy: "did you mean listen?",
      },
      { pointer: "x.yaml:4:1", code: "invalid-type", detail: "nodes: must be a map" },
    ],
  });
});

test("a pid file whose number belongs to another process names nobody", async () => {
  const path = join(directory, "other.pid");
  await writeFile(path, `${process.pid} 1 0.1.0\n`);
  expect(await readPidFile(path)).toBeUndefined();
  const own = await writePidFile(path, process.pid, "0.1.0");
  expect(await readPidFile(path)).toEqual(own);
  const child = launch(process.execPath, ["-e", stays], { stdio: "ignore" });
  const childOwner = await writePidFile(path, child.pid, "0.1.0");
  expect(await endProcess(childOwner, 5_000)).toBe(true);
});

test("surface.md §4 another state directory takes any port, keeps it, and gives way to others", async () => {
  const places = await freshPlaces("ports-");
  const first = await chooseListeners(places, ["127.0.0.1:7225"], true);
  expect(first.addresses).toEqual(["127.0.0.1:0"]);
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
  const { port } = holder.address() as AddressInfo;
  await first.keep([`http://127.0.0.1:${port}`]);
  const taken = await chooseListeners(places, ["127.0.0.1:7225"], true);
  expect(taken.addresses).toEqual(["127.0.0.1:0"]);
  await new Promise((resolve) => holder.close(resolve));
  const again = await chooseListeners(places, ["127.0.0.1:7225"], true);
  expect(again.addresses).toEqual([`127.0.0.1:${port}`]);
  const chosen = await chooseListeners(places, ["127.0.0.1:7225"], false);
  expect(chosen.addresses).toEqual(["127.0.0.1:7225"]);
});

test("surface.md §3 sockets move where the state directory's path is too long for one", () => {
  expect(placesOf("/var/lib/rackyard").apiSocket).toBe("/var/lib/rackyard/run/api.sock");
  const long = placesOf(`/tmp/${"x".repeat(90)}`);
  expect(long.apiSocket).toMatch(/^\/run\/rackyard\/[0-9a-f]{16}\/api\.sock$/);
});
