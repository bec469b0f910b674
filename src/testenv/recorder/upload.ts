/**
 * Uploads the files of a grant to the broker (lease.md §6): after the fence its time line and
 * consoles, after the proof the certificate, by PUT; tried again until ten minutes after the end,
 * over restarts of the agent too (a file `upload.json` says what has arrived). Never in the
 * reset's way: a broker that is away, or a disk without room for that file, costs the next holder
 * nothing.
 */
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { pauseOn } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import { open, readText } from "../../base/http-client.ts";
import type { Endpoint } from "../../base/http-client.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { backoffMs } from "../../base/retry.ts";
import { grantName, grantOfName } from "./recorder.ts";
import type { RecordedGrant, Recorder } from "./recorder.ts";

const stateSchema = z.strictObject({
  endedAtMs: z.number(),
  /** Size of each file as it arrived: one that has grown since goes again. */
  arrived: z.record(z.string(), z.int()),
});
type UploadState = z.output<typeof stateSchema>;

export type Upload = AsyncDisposable & {
  /** The lease is over (since `endedAtMs`): sends what its folder holds, and what comes later. */
  send(grant: RecordedGrant, endedAtMs: number): Promise<void>;
  /** Takes up what an earlier process had not uploaded. */
  resume(): Promise<void>;
};

const sendable = /^(?:timeline\.jsonl|certificate\.json|console-[A-Za-z0-9-]+\.log)$/;

export function openUpload(options: {
  readonly broker: Endpoint;
  /** As the broker knows it: a TE's id begins with it. */
  readonly hostName: string;
  readonly recorder: Recorder;
  readonly recorderRoot: string;
  readonly clock: Clock;
  readonly log: Log;
}): Upload {
  const { recorder, clock, log } = options;
  const stop = new AbortController();
  const running = new Map<string, Promise<void>>();
  const again = new Set<string>();
  /** Of grants whose `upload.json` could not be written. */
  const unwritten = new Map<string, UploadState>();

  const stateOf = async (name: string, folder: string): Promise<UploadState | undefined> =>
    unwritten.get(name) ?? (await readState(folder));

  /** What has arrived is only forgotten over a restart where it cannot be written. */
  async function keepState(name: string, folder: string, state: UploadState): Promise<void> {
    unwritten.set(name, state);
    await writeState(folder, state);
    unwritten.delete(name);
  }

  /** `name`: of the grant's folder. */
  async function deliver(name: string): Promise<void> {
    const grant = grantOfName(name)!;
    const folder = recorder.folder(grant);
    for (let tries = 1; !stop.signal.aborted; tries++) {
      again.delete(name);
      const state = await stateOf(name, folder);
      if (!state || clock.wallMs() - state.endedAtMs > limits.leaseFilesAfterEndMs) return;
      try {
        const refused = await sendAll(grant, folder, state);
        if (refused) again.delete(name);
        if (!again.has(name)) return;
        tries = 0;
      } catch (error) {
        log.warn({ ...grant, why: describeError(error) }, "files of a lease are not uploaded yet");
        await pauseOn(clock, backoffMs(tries, 500, 10_000), stop.signal).catch(() => undefined);
      }
    }
  }

  /** True: the broker will never take them. */
  async function sendAll(
    grant: RecordedGrant,
    folder: string,
    state: UploadState,
  ): Promise<boolean> {
    const names = (await readdir(folder)).filter((name) => sendable.test(name)).sort();
    for (const name of names) {
      const { size } = await stat(join(folder, name));
      if (state.arrived[name] === size) continue;
      const status = await put(grant, name, join(folder, name), size);
      if (status >= 400 && status < 500 && status !== 429) {
        log.warn({ ...grant, name, status }, "the broker refuses a file of a lease");
        return true;
      }
      if (status >= 300) throw new Error(`HTTP ${status}`);
      state.arrived[name] = size;
      await keepState(grantName(grant), folder, state).catch(() => undefined);
    }
    return false;
  }

  async function put(
    grant: RecordedGrant,
    name: string,
    path: string,
    size: number,
  ): Promise<number> {
    if (size > limits.leaseFileBytes) return 204; // bounded where it was written; never sent
    const te = encodeURIComponent(`${options.hostName}:${grant.testenv}`);
    const of = `te=${te}&epoch=${grant.epoch}`;
    const place = `/v1/hosts/leases/${grant.lease}/files/${name}?${of}`;
    const response = await open(options.broker, place, {
      method: "PUT",
      // a file that grows meanwhile is sent as long as it was
      stream: createReadStream(path, size === 0 ? {} : { end: size - 1 }),
      headers: { "content-type": "application/octet-stream", "content-length": String(size) },
      signal: stop.signal,
    });
    await readText(response, limits.requestBytes);
    return response.statusCode ?? 500;
  }

  function begin(name: string): void {
    again.add(name);
    if (running.has(name)) return;
    const done = deliver(name)
      .catch((error: unknown) => {
        if (!stop.signal.aborted) {
          log.error({ grant: name, why: describeError(error) }, "files of a lease stay here");
        }
      })
      .finally(() => {
        running.delete(name);
        if (again.delete(name) && !stop.signal.aborted) begin(name);
      });
    running.set(name, done);
  }

  return {
    async send(grant, endedAtMs) {
      const name = grantName(grant);
      const folder = recorder.folder(grant);
      const known = await stateOf(name, folder).catch(() => undefined);
      if (!known) {
        await keepState(name, folder, { endedAtMs, arrived: {} }).catch((error: unknown) => {
          log.warn({ grant: name, why: describeError(error) }, "a restart would upload it again");
        });
      }
      begin(name);
    },
    async resume() {
      for (const name of await readdir(options.recorderRoot)) {
        if (!grantOfName(name)) continue;
        const state = await readState(join(options.recorderRoot, name)).catch(() => undefined);
        if (state && clock.wallMs() - state.endedAtMs < limits.leaseFilesAfterEndMs) begin(name);
      }
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await Promise.all(running.values());
    },
  };
}

async function readState(folder: string): Promise<UploadState | undefined> {
  const text = await readTextIfAny(join(folder, "upload.json"));
  return text === undefined ? undefined : stateSchema.safeParse(JSON.parse(text)).data;
}

async function writeState(folder: string, state: UploadState): Promise<void> {
  await writeFileAtomic(join(folder, "upload.json"), JSON.stringify(state), 0o600);
}
