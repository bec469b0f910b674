/**
 * The end of a lease as its holder feels it (must-hold 7), through the command line, the broker
 * and the host: whatever its key had open is cut, and the key opens nothing any more.
 */
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, run } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import type { LeaseView } from "../../src/model/lease.ts";
import type { TestenvData } from "../../src/model/testenv.ts";
import { sshArgs, writeKnownHosts } from "../../src/ssh/client.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

let yard: Yard;
let folder: string;
beforeAll(async () => {
  const node = "nodes.labels.worker={ image: debian-12, minReady: 0 }";
  yard = await openYard({ set: ["teHost.kinds.two.count=1", node] });
  folder = await mkdtemp(join(tmpdir(), "fence-"));
});
afterAll(async () => {
  await yard[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

test("must-hold 7: a second after a lease's end its open copyseed is cut, its key refused", async () => {
  const file = join(folder, "te.json");
  const work = ["sh", "-c", `cp "$TE_DATAFILE" ${file}.new && mv ${file}.new ${file} && cat`];
  await using holder = launch(process.execPath, yard.argv("lease", "--for", "10m", "--", ...work), {
    stdio: ["pipe", "ignore", "ignore"], // its command reads for as long as nobody ends it
  });
  await until(() => existsSync(file), { timeoutMs: 60_000, what: "the rack" });
  const data = JSON.parse(await readFile(file, "utf8")) as TestenvData;
  const host = data["host-ip"];
  const [identityFile, knownHostsFile] = [join(folder, "key"), join(folder, "hosts")];
  await writeFile(identityFile, data["ssh-key"], { mode: 0o600 });
  await writeKnownHosts(knownHostsFile, { host }, String(data["ssh-host-key"]));
  const target = { host, user: data["ssh-user"], identityFile, knownHostsFile };
  const gate = (command: string) =>
    run("ssh", sshArgs(target, command), { accept: "any", timeoutMs: 60_000 });
  await using copy = launch("ssh", sshArgs(target, "copyseed 1"), {
    stdio: ["pipe", "ignore", "ignore"],
  });
  copy.stdin!.on("error", () => undefined);
  // more than pipes and ssh's window hold: when it is gone the agent is taking it
  copy.stdin!.write(Buffer.alloc(8_000_000, 1));
  await once(copy.stdin!, "drain", { signal: AbortSignal.timeout(60_000) });
  expect((await gate("copyseed 1")).stderr).toContain("another copyseed");

  const [lease] = (await yard.json<{ items: LeaseView[] }>("lease", "list")).items;
  const cutAt = copy.exited.then(() => Date.now());
  const released = await yard.cli("lease", "release", lease!.id);
  expect(released.exitCode, released.stderr).toBe(0);
  const late = await gate("virsh list");
  expect([late.exitCode, late.stderr]).toEqual([255, expect.stringContaining("Permission denied")]);
  const ended = await yard.json<LeaseView>("lease", "show", lease!.id);
  expect((await cutAt) - Date.parse(ended.endedAt ?? "")).toBeLessThan(1_000);
  expect((await holder.exited).code).toBe(75); // the rack was taken from it: it says so
});
