/**
 * The lease API's calls as functions (lease.md §4), over base/http-client: asking, looking,
 * following, taking, renewing, the end. No state; what a lease needs is its id and its token, so
 * that whoever was restarted goes on where it was.
 */
import { setMaxListeners } from "node:events";
import { isRackyardError, RackyardError } from "../../base/errors.ts";
import { call, open, readText, serverSentEvents } from "../../base/http-client.ts";
import type { Endpoint } from "../../base/http-client.ts";
import { limits } from "../../base/limits.ts";
import { backoffMs } from "../../base/retry.ts";
import { pause } from "../../base/wait.ts";
import { leaseGrantedSchema, leaseViewSchema } from "../../model/lease.ts";
import type { LeaseCreated, LeaseRequestInput, LeaseView } from "../../model/lease.ts";
import { testenvDataSchema } from "../../model/testenv.ts";
import type { TestenvData } from "../../model/testenv.ts";

/** What stands for a lease, wherever it is held. */
export type LeaseKey = { readonly id: string; readonly token: string };

export type LeaseCalls = {
  /** The same `key` asks for the same lease, and gets the same token. */
  ask(request: LeaseRequestInput, key: string, signal?: AbortSignal): Promise<LeaseCreated>;
  look(lease: LeaseKey, signal?: AbortSignal): Promise<LeaseView>;
  offer(
    lease: LeaseKey,
    takeable: boolean,
    addresses: readonly string[],
    signal?: AbortSignal,
  ): Promise<LeaseView>;
  /**
   * The lease now and after each change, until it has ended. A stream where the server gives
   * one, else long polls; goes on through the server's restarts until the signal aborts. A
   * refusal that no waiting mends is thrown (`stale-epoch`, `not-found`, …).
   */
  watch(lease: LeaseKey, signal: AbortSignal): AsyncGenerator<LeaseView>;
  /** The first call is the taking (L8). */
  data(lease: LeaseKey, signal?: AbortSignal): Promise<TestenvData>;
  renew(lease: LeaseKey, signal?: AbortSignal): Promise<LeaseView>;
  extend(lease: LeaseKey, durationSeconds: number, signal?: AbortSignal): Promise<LeaseView>;
  /** Content when it is over already. */
  release(lease: LeaseKey, signal?: AbortSignal): Promise<LeaseView>;
};

export function openLeaseCalls(endpoint: Endpoint): LeaseCalls {
  const path = ({ id }: LeaseKey, rest = ""): string => `/v1/leases/${id}${rest}`;

  async function act(
    lease: LeaseKey,
    method: string,
    rest: string,
    body: object | undefined,
    signal: AbortSignal | undefined,
  ): Promise<LeaseView> {
    const answer = await call(endpoint, path(lease, rest), {
      method,
      token: lease.token,
      ...(body ? { body } : {}),
      ...(signal ? { signal } : {}),
    });
    return leaseViewSchema.parse(answer);
  }

  /** One connection's worth of news; ends when the server closes it. */
  async function* stream(lease: LeaseKey, signal: AbortSignal): AsyncGenerator<LeaseView> {
    const response = await open(endpoint, `${path(lease)}?wait=${limits.holderPollMs / 1_000}s`, {
      token: lease.token,
      headers: { accept: "text/event-stream, application/json;q=0.5" },
      // the server's keep-alive comments come more often than this
      timeoutMs: limits.streamKeepAliveMs * 3,
      signal,
    });
    try {
      const status = response.statusCode ?? 500;
      if (status >= 300) throw refusal(status, await readText(response, 64 * 1024));
      if (response.headers["content-type"]?.startsWith("text/event-stream")) {
        for await (const event of serverSentEvents(response)) {
          if (event.event === "error") throw problemOf(event.data);
          yield leaseViewSchema.parse(JSON.parse(event.data));
        }
      } else {
        yield leaseViewSchema.parse(JSON.parse(await readText(response, limits.requestBytes)));
      }
    } finally {
      response.destroy();
    }
  }

  return {
    async ask(request, key, signal) {
      const answer = await call(endpoint, "/v1/leases", {
        method: "POST",
        body: request,
        headers: { "idempotency-key": key },
        ...(signal ? { signal } : {}),
      });
      return leaseGrantedSchema.parse(answer);
    },
    look: (lease, signal) => act(lease, "GET", "", undefined, signal),
    offer: (lease, takeable, addresses, signal) =>
      act(lease, "PATCH", "", { takeable, holder: { addresses: [...addresses] } }, signal),
    async *watch(lease, signal) {
      setMaxListeners(0, signal); // one for each try: it lives as long as the lease
      for (let failures = 0; !signal.aborted;) {
        try {
          for await (const view of stream(lease, signal)) {
            failures = 0;
            yield view;
            if (view.state === "ended") return;
          }
          failures++;
        } catch (error) {
          if (signal.aborted) return;
          if (!passes(error)) throw error;
          failures++;
        }
        const waited = pause(
          backoffMs(failures, limits.pollMs, limits.sessionRedialLastMs),
          signal,
        );
        await waited.catch(() => undefined);
      }
    },
    async data(lease, signal) {
      const answer = await call(endpoint, path(lease, "/testenv.json"), {
        token: lease.token,
        ...(signal ? { signal } : {}),
      });
      return testenvDataSchema.parse(answer);
    },
    renew: (lease, signal) => act(lease, "POST", "/renew", undefined, signal),
    extend: (lease, durationSeconds, signal) =>
      act(lease, "POST", "/extend", { durationSeconds }, signal),
    release: (lease, signal) => act(lease, "DELETE", "", undefined, signal),
  };
}

/** What a little patience mends: the server away or starting, the host just not connected. */
export function passes(error: unknown): boolean {
  if (!isRackyardError(error)) return isNetwork(error);
  return ["unavailable", "not-running", "timed-out", "too-many", "host-gone", "internal"].includes(
    error.code,
  );
}

/** A connection that broke in the middle of an answer. */
function isNetwork(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code ?? "";
  return code.startsWith("E") && !code.startsWith("ERR_");
}

function refusal(status: number, text: string): RackyardError {
  const problem = problemOf(text);
  if (status < 500) return problem;
  return new RackyardError("unavailable", problem.message, { cause: problem });
}

function problemOf(text: string): RackyardError {
  try {
    const { code, detail } = JSON.parse(text) as { code?: string; detail?: string };
    return new RackyardError((code ?? "unavailable") as "unavailable", detail ?? "no reason given");
  } catch {
    return new RackyardError("unavailable", "an answer that is no JSON");
  }
}
