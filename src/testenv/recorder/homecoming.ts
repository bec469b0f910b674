/**
 * Brings a lease's files home (lease.md §6): after the fence its time line and consoles, after
 * the proof the certificate, by PUT to the broker; tried again until ten minutes after the end,
 * over restarts of the agent too (a file `home.json` says what has arrived). Never in the
 * reset's way: a broker that is away costs the next holder nothing.
 */
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import { open, readText } from "../../base/http-client.ts";
import type { Endpoint } from "../../base/http-client.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { backoffMs } from "../../base/retry.ts";
import { pause } from "../../base/wait.ts";
import type { Recorder } from "./recorder.ts";

const homeSchema = z.strictObject({
  endedAtMs: z.number(),
  /** Size of each file as it arrived: one that has grown since goes again. */
  arrived: z.record(z.string(), z.int()),
});
type Home = z.output<typeof homeSchema>;

export type Homecoming = AsyncDisposable & {
  /** The lease is over (since `endedAtMs`): sends what its folder holds, and what comes later. */
  send(lease: string, endedAtMs: number): Promise<void>;
  /** Takes up what an earlier process had not brought home. */
  resume(): Promise<void>;
};

const sendable = /^(?:timeline\.jsonl|certificate\.json|console-[A-Za-z0-9-]+\.log)$/;

export function openHomecoming(options: {
  readonly broker: Endpoint;
  readonly recorder: Recorder;
  readonly recorderRoot: string;
  readonly clock: Clock;
  readonly log: Log;
}): Homecoming {
  const { recorder, clock, log } = options;
  const stop = new AbortController();
  const running = new Map<string, Promise<void>>();
  const again = new Set<string>();

  async function deliver(lease: string): Promise<void> {
    const folder = recorder.folder(lease);
    for (let tries = 1; !stop.signal.aborted; tries++) {
      again.delete(lease);
      const home = await readHome(folder);
      if (!home || clock.wallMs() - home.endedAtMs > limits.leaseFilesAfterEndMs) return;
      try {
        const refused = await sendAll(lease, folder, home);
        if (refused) again.delete(lease);
        if (!again.has(lease)) return;
        tries = 0;
      } catch (error) {
        log.warn({ lease, why: describeError(error) }, "files do not come home yet");
        await pause(backoffMs(tries, 500, 10_000), stop.signal).catch(() => undefined);
      }
    }
  }

  /** True: the broker will never take them. */
  async function sendAll(lease: string, folder: string, home: Home): Promise<boolean> {
    const names = (await readdir(folder)).filter((name) => sendable.test(name)).sort();
    for (const name of names) {
      const { size } = await stat(join(folder, name));
      if (home.arrived[name] === size) continue;
      const status = await put(lease, name, join(folder, name), size);
      if (status >= 400 && status < 500 && status !== 429) {
        log.warn({ lease, name, status }, "the broker refuses a file of a lease");
        return true;
      }
      if (status >= 300) throw new Error(`HTTP ${status}`);
      home.arrived[name] = size;
      await writeHome(folder, home);
    }
    return false;
  }

  async function put(lease: string, name: string, path: string, size: number): Promise<number> {
    if (size > limits.leaseFileBytes) return 204; // bounded where it was written; never sent
    const response = await open(options.broker, `/v1/hosts/leases/${lease}/files/${name}`, {
      method: "PUT",
      // a file that grows meanwhile is sent as long as it was
      stream: createReadStream(path, size === 0 ? {} : { end: size - 1 }),
      headers: { "content-type": "application/octet-stream", "content-length": String(size) },
      signal: stop.signal,
    });
    await readText(response, limits.requestBytes);
    return response.statusCode ?? 500;
  }

  function begin(lease: string): void {
    again.add(lease);
    if (running.has(lease)) return;
    const done = deliver(lease)
      .catch((error: unknown) => {
        if (!stop.signal.aborted) {
          log.error({ lease, why: describeError(error) }, "files of a lease stay here");
        }
      })
      .finally(() => {
        running.delete(lease);
        if (again.delete(lease) && !stop.signal.aborted) begin(lease);
      });
    running.set(lease, done);
  }

  return {
    async send(lease, endedAtMs) {
      const folder = recorder.folder(lease);
      const known = await readHome(folder);
      if (!known) await writeHome(folder, { endedAtMs, arrived: {} });
      begin(lease);
    },
    async resume() {
      for (const lease of await readdir(options.recorderRoot)) {
        const home = await readHome(join(options.recorderRoot, lease)).catch(() => undefined);
        if (home && clock.wallMs() - home.endedAtMs < limits.leaseFilesAfterEndMs) begin(lease);
      }
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await Promise.all(running.values());
    },
  };
}

async function readHome(folder: string): Promise<Home | undefined> {
  const text = await readTextIfAny(join(folder, "home.json"));
  return text === undefined ? undefined : homeSchema.safeParse(JSON.parse(text)).data;
}

async function writeHome(folder: string, home: Home): Promise<void> {
  await writeFileAtomic(join(folder, "home.json"), JSON.stringify(home), 0o600);
}
