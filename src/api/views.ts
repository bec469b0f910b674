/**
 * What the API shows and does, as it is handed in by `main`: the API knows no other folder of
 * the program than model and base (architecture.md). Implementations throw RackyardError; the
 * API turns it into a problem. Tokens of leases are passed on as they came.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { BuildView, TimelineEntry } from "../model/build.ts";
import type { ChangeSummary, ChangeView } from "../model/change.ts";
import type { Caller, Role, TokenView } from "../model/identity.ts";
import type { LeaseCreated, LeasePatch, LeaseRequest, LeaseView } from "../model/lease.ts";
import type { ImageView, NodeView } from "../model/node.ts";
import type { Certificate, HostView, TestenvData, TestenvView } from "../model/testenv.ts";

export type Page<T> = { readonly items: readonly T[]; readonly next: string | null };
export type PageQuery = { readonly limit: number; readonly cursor?: string | undefined };

export type LeaseViews = {
  /**
   * L6: recorded before it answers. `unsatisfiable` (422) names what is missing (L12). The same
   * caller's same key is the same lease, also where the first answer was never kept.
   */
  ask(request: LeaseRequest, caller: Caller, key?: string): Promise<LeaseCreated>;
  patch(id: string, patch: LeasePatch, token: string): Promise<LeaseView>;
  /** The id that begins as `text` does. Throws `not-found`, `conflict` where several do. */
  whole(text: string): Promise<string>;
  /** A look with the lease's own token is a sign of life (L11). */
  get(id: string, token?: string): Promise<LeaseView>;
  /** The lease now, and after each change, until it has ended or the signal aborts. */
  watch(id: string, token: string | undefined, signal: AbortSignal): AsyncIterable<LeaseView>;
  /** The TE data; the first call is the taking (L8). */
  data(id: string, token: string): Promise<TestenvData>;
  renew(id: string, token: string): Promise<LeaseView>;
  extend(id: string, durationSeconds: number, token: string): Promise<LeaseView>;
  release(id: string, token: string): Promise<LeaseView>;
  /** By an operator: no token of the lease is needed. */
  revoke(id: string, by: Caller): Promise<LeaseView>;
  list(
    query: PageQuery & {
      holder?: string | undefined;
      group?: string | undefined;
      te?: string | undefined;
      state?: string | undefined;
      since?: string | undefined;
    },
  ): Promise<Page<LeaseView>>;
  certificate(id: string): Promise<Certificate>;
  files(id: string): Promise<{ name: string; bytes: number }[]>;
  /** Path of a file that was brought home (lease.md §6). */
  filePath(id: string, name: string): Promise<string>;
  /** A host brings a file home; `host` is proven by the session's key or by the socket. */
  storeFile(
    id: string,
    file: { te: string; epoch: string; name: string },
    body: IncomingMessage,
  ): Promise<void>;
};

export type FleetViews = {
  testenvs(): Promise<readonly TestenvView[]>;
  testenv(id: string): Promise<TestenvView>;
  certificate(testenvId: string): Promise<Certificate>;
  drain(testenvId: string, on: boolean, by: Caller): Promise<TestenvView>;
  reset(testenvId: string, by: Caller): Promise<TestenvView>;
  hosts(): Promise<readonly HostView[]>;
  /** Bytes of a machine's serial console from an offset, going on until the signal aborts. */
  console(
    testenvId: string,
    machine: string,
    fromByte: number,
    follow: boolean,
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
};

export type ChangeViews = {
  list(
    query: PageQuery & {
      project?: string | undefined;
      status?: string | undefined;
      owner?: string | undefined;
    },
  ): Promise<Page<ChangeSummary>>;
  get(number: number): Promise<ChangeView>;
  comment(number: number, message: string, by: Caller): Promise<ChangeView>;
  vote(
    number: number,
    vote: { label: string; value: number; message?: string | undefined },
    by: Caller,
  ): Promise<ChangeView>;
  abandon(number: number, by: Caller): Promise<ChangeView>;
  restore(number: number, by: Caller): Promise<ChangeView>;
};

export type BuildQuery = PageQuery & {
  change?: number | undefined;
  project?: string | undefined;
  pipeline?: string | undefined;
  job?: string | undefined;
  state?: string | undefined;
  result?: string | undefined;
};

export type ConsoleLine = { readonly seq: number; readonly line: string };

export type BuildViews = {
  list(query: BuildQuery): Promise<Page<BuildView>>;
  /** The id that begins as `text` does. Throws `not-found`, `conflict` where several do. */
  whole(text: string): Promise<string>;
  get(id: string): Promise<BuildView>;
  timeline(id: string): Promise<readonly TimelineEntry[]>;
  /**
   * Lines after `afterSeq` (from 1), as they come, until the build's console has ended; `follow`
   * false: those there are now, all of them.
   */
  console(
    id: string,
    afterSeq: number,
    signal: AbortSignal,
    follow: boolean,
  ): AsyncIterable<ConsoleLine>;
  cancel(id: string, by: Caller): Promise<BuildView>;
  /** Archived files: path under the build's logs, bytes. */
  files(id: string): Promise<{ path: string; bytes: number }[]>;
  nodes(): Promise<readonly NodeView[]>;
  images(): Promise<readonly ImageView[]>;
  pipelines(): Promise<readonly PipelineView[]>;
};

export type PipelineView = {
  readonly name: string;
  readonly manager: string;
  readonly items: readonly {
    readonly id: string;
    readonly change: number;
    readonly patchset: number;
    readonly project: string;
    readonly enqueuedAt: string;
    readonly jobs: readonly {
      readonly name: string;
      readonly build: string | null;
      readonly state: string;
      readonly result: string | null;
      readonly why: string | null;
    }[];
  }[];
};

export type AdminViews = {
  /** Whoever a bearer or git token belongs to; undefined: no such token, or expired. */
  authenticate(token: string): Promise<Caller | undefined>;
  createToken(request: {
    name: string;
    role: Role;
    groups: readonly string[];
    expiresInSeconds?: number | undefined;
  }): Promise<TokenView & { token: string }>;
  tokens(): Promise<readonly TokenView[]>;
  revokeToken(id: string): Promise<void>;
  /** Reads configuration and layout again; a fault refuses them and the old ones stay. */
  reload(): Promise<{ readonly layout: string; readonly projects: number; readonly jobs: number }>;
  /** surface.md §8: what `status --json` prints, with present values. */
  status(): Promise<object>;
  ready(): Promise<{ readonly ok: boolean; readonly problems: readonly string[] }>;
  /** Prometheus text. */
  metrics(): Promise<string>;
};

export type ApiEvent = {
  readonly id: number;
  readonly topic: "change" | "item" | "build" | "lease" | "testenv" | "host" | "node";
  readonly at: string;
  /** What it is about: the id of the build, lease, …; the number of a change. */
  readonly subject: string;
  readonly event: string;
  readonly body: object;
};

/** What is now, by topic: the first event of a stream that begins now. */
export type ApiState = { readonly [topic in ApiEvent["topic"]]?: readonly object[] };

export type EventViews = {
  /** The newest event's id: what is read after it is at least as new. */
  newest(): Promise<number>;
  /** Events after `afterId`; `resync` first where they are no longer kept. */
  watch(
    topics: readonly string[],
    afterId: number | undefined,
    signal: AbortSignal,
  ): AsyncIterable<ApiEvent | { readonly resync: true; readonly id: number }>;
};

/** Requests that are not JSON's: git, logs, sessions, pages. Each answers by itself. */
export type RawHandlers = {
  /** `/git/<project>/…` of the review system: git's smart HTTP. */
  git(
    request: IncomingMessage,
    response: ServerResponse,
    caller: Caller | undefined,
  ): Promise<void>;
  /** `/logs/…`: archived files (surface.md §4: other people's HTML on our origin). */
  logs(request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** `/v1/hosts/session`; only through `run/api.sock` where hosts have no keys yet. */
  hostSession(request: IncomingMessage, socket: Duplex, head: Buffer): void;
};

export type Views = {
  readonly leases: LeaseViews;
  readonly fleet: FleetViews;
  readonly changes: ChangeViews;
  readonly builds: BuildViews;
  readonly admin: AdminViews;
  readonly events: EventViews;
  readonly raw: RawHandlers;
};
