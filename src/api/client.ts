/**
 * The API as a typed client, for the CLI and the demo: over TCP or the socket file, with limits
 * and cancellation. Problems come back as RackyardError with their code. Decides nothing.
 */
import { call, open, readText, serverSentEvents } from "../base/http-client.ts";
import type { Endpoint, HttpOptions } from "../base/http-client.ts";
import { fail, isRackyardError, RackyardError } from "../base/errors.ts";
import type { ErrorCode } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { backoffMs } from "../base/retry.ts";
import { pause } from "../base/wait.ts";
import type { BuildView, TimelineEntry } from "../model/build.ts";
import type { ChangeSummary, ChangeView } from "../model/change.ts";
import type { TokenView } from "../model/identity.ts";
import type { LeaseView } from "../model/lease.ts";
import type { ImageView, NodeView } from "../model/node.ts";
import type { Certificate, HostView, TestenvView } from "../model/testenv.ts";
import type { ApiEvent, ApiState, ConsoleLine, Page, PipelineView } from "./views.ts";

export type StreamedEvent =
  | ApiEvent
  | { readonly resync: true; readonly id: number }
  | { readonly state: ApiState; readonly id: number };

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export type Client = ReturnType<typeof openClient>;
type Http = ReturnType<typeof httpOf>;

export function openClient(endpoint: Endpoint, signal?: AbortSignal) {
  const http = httpOf(endpoint, signal);
  return {
    endpoint,
    status: () => http.get<Record<string, unknown>>("/v1/status"),
    reload: () => http.post<{ layout: string; projects: number; jobs: number }>("/v1/reload"),
    changes: changesOf(http),
    builds: buildsOf(http),
    ...fleetOf(http),
    pipelines: { list: () => http.all<PipelineView>("/v1/pipelines") },
    tokens: tokensOf(http),
    /**
     * Events after `lastId` as they come; `resync` where they are no longer kept. With `state`
     * the first one says what is now, where no `lastId` is given.
     */
    async *events(
      topics: readonly string[],
      more: { signal?: AbortSignal; lastId?: number; state?: boolean } = {},
    ): AsyncGenerator<StreamedEvent> {
      const state = more.state ?? false;
      const path = `/v1/events${queryText({ topic: topics.join(","), state })}`;
      for await (const event of http.stream(path, more)) {
        const id = Number(event.id);
        if (event.event === "resync") yield { resync: true, id };
        else if (event.event === "state") yield { state: JSON.parse(event.data) as ApiState, id };
        else yield JSON.parse(event.data) as ApiEvent;
      }
    },
  };
}

function httpOf(endpoint: Endpoint, signal: AbortSignal | undefined) {
  const send = <T>(path: string, options: HttpOptions = {}): Promise<T> =>
    call<T>(endpoint, path, { ...(signal ? { signal } : {}), ...options });
  const get = <T>(path: string, query: Query = {}): Promise<T> => send<T>(path + queryText(query));
  const post = <T>(path: string, body?: object, headers: Record<string, string> = {}): Promise<T> =>
    send<T>(path, { method: "POST", headers, ...(body ? { body } : {}) });
  const all = async <T>(path: string): Promise<readonly T[]> => (await get<Page<T>>(path)).items;
  const stream = (path: string, more: { signal?: AbortSignal; lastId?: number } = {}) =>
    events(endpoint, path, { ...(signal ? { signal } : {}), ...more });

  return {
    signal,
    send,
    get,
    post,
    all,
    stream,
    text: (path: string) => text(endpoint, path, signal),
  };
}

function changesOf({ get, post }: Http) {
  return {
    list: (query: Query = {}) => get<Page<ChangeSummary>>("/v1/changes", query),
    get: (number: number) => get<ChangeView>(`/v1/changes/${number}`),
    comment: (number: number, message: string) =>
      post<ChangeView>(`/v1/changes/${number}/comments`, { message }),
    vote: (number: number, vote: { label: string; value: number; message?: string }) =>
      post<ChangeView>(`/v1/changes/${number}/votes`, vote),
    abandon: (number: number) => post<ChangeView>(`/v1/changes/${number}/abandon`),
    restore: (number: number) => post<ChangeView>(`/v1/changes/${number}/restore`),
  };
}

function buildsOf(http: Http) {
  return {
    list: (query: Query = {}) => http.get<Page<BuildView>>("/v1/builds", query),
    get: (id: string) => http.get<BuildView>(`/v1/builds/${id}`),
    timeline: (id: string) => http.all<TimelineEntry>(`/v1/builds/${id}/timeline`),
    files: (id: string) => http.all<{ path: string; bytes: number }>(`/v1/builds/${id}/files`),
    cancel: (id: string) => http.post<BuildView>(`/v1/builds/${id}/cancel`),
    /** Lines as they come, until the console ends. */
    async *follow(id: string, after = 0): AsyncGenerator<ConsoleLine> {
      let seen = after;
      let failures = 0;
      for (;;) {
        // A console that is not begun yet, or goes on after a restart, is looked at again.
        try {
          const { state } = await http.get<BuildView>(`/v1/builds/${id}`);
          for await (const event of http.stream(`/v1/builds/${id}/console?follow&after=${seen}`)) {
            failures = 0;
            if (event.event === "end") break;
            if (event.event !== "line") continue;
            seen = Number(event.id);
            yield { seq: seen, line: event.data };
          }
          failures = 0;
          if (state === "reported") return;
        } catch (error) {
          // A broken connection or a server that restarts: go on after the last line seen.
          if (!isBroken(error) || ++failures >= limits.followTries) throw error;
        }
        await pause(backoffMs(Math.max(1, failures)), http.signal);
      }
    },
    console: (id: string) => http.text(`/v1/builds/${id}/console`),
  };
}

/** The connection's end, not an answer. */
function isBroken(error: unknown): boolean {
  if (isRackyardError(error)) return error.code === "unavailable";
  const { code } = error as NodeJS.ErrnoException;
  return code === "ECONNRESET" || code === "EPIPE" || code === "ERR_STREAM_PREMATURE_CLOSE";
}

function fleetOf({ get, all, send }: Http) {
  const testenv = (id: string): string => `/v1/testenvs/${encodeURIComponent(id)}`;
  return {
    leases: {
      list: (query: Query = {}) => get<Page<LeaseView>>("/v1/leases", query),
      get: (id: string) => get<LeaseView>(`/v1/leases/${id}`),
      /** By an operator; the holder's own way is lease/holder. */
      revoke: (id: string) => send<LeaseView>(`/v1/leases/${id}`, { method: "DELETE" }),
      certificate: (id: string) => get<Certificate>(`/v1/leases/${id}/certificate`),
      files: (id: string) => all<{ name: string; bytes: number }>(`/v1/leases/${id}/files`),
    },
    testenvs: {
      list: () => all<TestenvView>("/v1/testenvs"),
      get: (id: string) => get<TestenvView>(testenv(id)),
      certificate: (id: string) => get<Certificate>(`${testenv(id)}/certificate`),
      drain: (id: string, on: boolean) =>
        send<TestenvView>(`${testenv(id)}/${on ? "drain" : "undrain"}`, { method: "POST" }),
      reset: (id: string) => send<TestenvView>(`${testenv(id)}/reset`, { method: "POST" }),
    },
    hosts: {
      list: () => all<HostView>("/v1/hosts"),
      get: (name: string) => get<HostView>(`/v1/hosts/${encodeURIComponent(name)}`),
    },
    nodes: {
      list: () => all<NodeView>("/v1/nodes"),
      get: (id: string) => get<NodeView>(`/v1/nodes/${id}`),
    },
    images: { list: () => all<ImageView>("/v1/images") },
  };
}

function tokensOf({ all, post, send }: Http) {
  return {
    list: () => all<TokenView>("/v1/tokens"),
    create: (request: {
      name: string;
      role?: string;
      groups?: readonly string[];
      expiresInSeconds?: number;
    }) => post<TokenView & { token: string }>("/v1/tokens", request),
    revoke: (id: string) => send<void>(`/v1/tokens/${id}`, { method: "DELETE" }),
  };
}

export function queryText(query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") parameters.set(name, String(value));
  }
  return parameters.size === 0 ? "" : `?${parameters.toString()}`;
}

async function* events(
  endpoint: Endpoint,
  path: string,
  more: { signal?: AbortSignal; lastId?: number },
): ReturnType<typeof serverSentEvents> {
  const response = await open(endpoint, path, {
    headers: {
      accept: "text/event-stream",
      ...(more.lastId === undefined ? {} : { "last-event-id": String(more.lastId) }),
    },
    timeoutMs: limits.streamKeepAliveMs * 3,
    ...(more.signal ? { signal: more.signal } : {}),
  });
  if (response.statusCode !== 200) await refuse(response);
  for await (const event of serverSentEvents(response)) {
    if (event.event === "error") throw errorOf(event.data);
    yield event;
  }
}

async function text(endpoint: Endpoint, path: string, signal?: AbortSignal): Promise<string> {
  const response = await open(endpoint, path, {
    headers: { accept: "text/plain" },
    ...(signal ? { signal } : {}),
  });
  if (response.statusCode !== 200) await refuse(response);
  return readText(response, limits.buildConsoleBytes * 2);
}

async function refuse(response: Parameters<typeof readText>[0]): Promise<never> {
  throw errorOf(await readText(response, limits.requestBytes));
}

function errorOf(json: string): RackyardError {
  let problem: { code?: string; detail?: string; remedy?: string };
  try {
    problem = JSON.parse(json) as typeof problem;
  } catch {
    return fail("unavailable", "the server's answer is not understood");
  }
  return new RackyardError(
    (problem.code ?? "unavailable") as ErrorCode,
    problem.detail ?? "the server refused",
    problem.remedy === undefined ? {} : { remedy: problem.remedy },
  );
}
