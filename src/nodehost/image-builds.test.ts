/**
 * Image builds with real programs: recipes run here as they do on a host, outside of any cell.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../base/clock.ts";
import { processStart } from "../base/files.ts";
import { sha256Hex } from "../base/ids.ts";
import { silentLog } from "../base/log.ts";
import { until } from "../base/wait.ts";
import { openImageStore } from "../image/content-store.ts";
import type { FromHost } from "../session/session-port.ts";
import { openSqliteStore } from "../store/store.ts";
import { openImageBuilds } from "./image-builds.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-images-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** Builds one recipe and gives what the host says of it in the end. */
async function built(script: string): Promise<FromHost> {
  const sent: FromHost[] = [];
  await using store = await openSqliteStore(join(directory, "te-host.db"));
  await using builds = await openImageBuilds({
    images: await openImageStore(join(directory, "images")),
    store,
    workFolder: join(directory, "work"),
    packagesFolder: join(directory, "packages"),
    maxVirtualGiB: 1,
    outside: (program, args) => Promise.resolve({ program, args }),
    clock: systemClock,
    log: silentLog,
    send: (message) => void sent.push(message),
  });
  await builds.start();
  const content = Buffer.from(script);
  await builds.build({
    kind: "image-build",
    name: "worker",
    recipe: sha256Hex(content),
    diskGiB: 1,
    files: [
      {
        path: "build",
        mode: 0o755,
        sha256: sha256Hex(content),
        contentBase64: content.toString("base64"),
      },
    ],
  });
  const over = ({ kind }: FromHost): boolean => kind === "image-ready" || kind === "image-failed";
  await until(() => sent.some(over), { timeoutMs: 20_000, what: "the image's build to end" });
  return sent.find(over)!;
}

const make = 'qemu-img create -q -f qcow2 "$1" 64M\n';

test("case image-recipe-left-running: over when build has ended; what it left is ended", async () => {
  const pids = join(directory, "pids");
  const script =
    `#!/bin/sh\nsleep 900 &\necho $! >>${pids}\n` +
    // a daemon: a session of its own, and the output still open
    `setsid sh -c 'echo $$ >>${pids}; sleep 901; true' &\n` +
    `until [ "$(wc -l <${pids})" = 2 ]; do sleep 0.05; done\n` +
    make;
  const beganMs = performance.now();
  expect(await built(script)).toMatchObject({ kind: "image-ready" });
  expect(performance.now() - beganMs).toBeLessThan(15_000);
  for (const pid of (await readFile(pids, "utf8")).trim().split("\n")) {
    expect(await processStart(Number(pid))).toBeUndefined();
  }
});

test("case image-recipe-left-running: a recipe with CRLF line ends is told as what it is", async () => {
  const answer = await built(`#!/bin/sh\r\n${make}`);
  expect(answer).toMatchObject({ kind: "image-failed" });
  expect(answer).toMatchObject({ detail: expect.stringContaining("CRLF line ends") });
});

test("a recipe that fails says its last line, also where something it left runs on", async () => {
  const answer = await built("#!/bin/sh\nsleep 902 &\necho why it failed >&2\nexit 3\n");
  expect(answer).toMatchObject({ kind: "image-failed" });
  expect(answer).toMatchObject({ detail: expect.stringMatching(/exit 3: why it failed/) });
});
