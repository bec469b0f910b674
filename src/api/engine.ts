/**
 * Carries requests to routes: who asks, whether they may, whether what they sent fits the
 * route's schemas; then the answer with its ETag, or the problem. Every manner of surface.md §5
 * that all routes share is here, once. What a route does is behind its `handle`.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Hono } from "hono";
import type { Context } from "hono";
import type { z } from "@hono/zod-openapi";
import { assert } from "../base/assert.ts";
import { describeError, fail, isRackyardError, RackyardError } from "../base/errors.ts";
import { sha256Hex } from "../base/ids.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { authorize, identify } from "./access.ts";
import type { Door, Identity } from "./access.ts";
import { onceWith } from "./idempotency.ts";
import type { AnswerStore, Once } from "./idempotency.ts";
import { faultsOf, problemHeaders, problemOf } from "./problem.ts";
import { anonymous } from "./route.ts";
import type { Share, Shares, TokenWatch } from "./shares.ts";
import type { Call, Route } from "./route.ts";

export type NodeEnv = {
  Bindings: { incoming: IncomingMessage; outgoing: ServerResponse; door: Door };
};
type AnyCall = Call<unknown, unknown, unknown>;

export type EngineOptions = {
  readonly answers: AnswerStore;
  readonly log: Log;
  readonly shares: Shares;
  readonly tokens: TokenWatch;
  /** Aborted when the server stops: long polls and streams end. */
  readonly stopping: AbortSignal;
};

export function engineOf(routes: readonly Route[], options: EngineOptions): Hono<NodeEnv> {
  const app = new Hono<NodeEnv>();
  const once = onceWith(options.answers);
  const paths = new Map<string, Route[]>();
  for (const route of routes) paths.set(route.path, [...(paths.get(route.path) ?? []), route]);
  for (const [path, same] of paths) {
    const pattern = path.replaceAll(/\{(\w+)\}/g, ":$1");
    for (const route of same) {
      app.on(route.method.toUpperCase(), pattern, (c) => serve(c, route, once, options));
    }
    app.all(pattern, (c) => methodNotAllowed(c, same));
  }
  app.notFound((c) => problem(notFound(c.req.path)));
  app.onError((error, c) => {
    if (!isRackyardError(error)) {
      options.log.error({ err: error, method: c.req.method, path: c.req.path }, "request failed");
    }
    return problem(error);
  });
  return app;
}

export function problem(error: unknown): Response {
  const body = problemOf(error);
  return Response.json(body, { status: body.status, headers: problemHeaders(body.status) });
}

function notFound(path: string): RackyardError {
  return new RackyardError("not-found", `there is nothing at ${path}`, {
    remedy: "/v1/openapi.json lists what there is",
  });
}

function methodNotAllowed(c: Context<NodeEnv>, routes: readonly Route[]): Response {
  const methods = routes.map((route) => route.method.toUpperCase());
  if (methods.includes("GET")) methods.push("HEAD");
  const allow = methods.sort().join(", ");
  const detail = `${c.req.method} is not for ${c.req.path}, but ${allow}`;
  const answer = problem(new RackyardError("method-not-allowed", detail));
  answer.headers.set("allow", allow);
  return answer;
}

async function serve(
  c: Context<NodeEnv>,
  route: Route,
  once: Once,
  options: EngineOptions,
): Promise<Response> {
  const request = c.env.incoming;
  const gone = new AbortController();
  c.env.outgoing.once("close", () => gone.abort(new DOMException("caller gone", "AbortError")));
  const who = await identify(request, c.env.door);
  authorize(route.access, who, c.env.door);
  if (!c.env.door.socket) options.shares.enter(shareOf(who, request), gone.signal);
  const over = new AbortController();
  const endOver = (): void => over.abort(new DOMException("its token is dead", "AbortError"));
  if (who.token !== undefined) options.tokens.follow(who.token, gone.signal, endOver);
  const text = route.body ? await readBody(request) : "";
  const call: AnyCall = {
    params: check("path", route.params, c.req.param()),
    query: check("query", route.query, queryOf(c)),
    body: route.body ? check("body", route.body, parseJson(text)) : undefined,
    caller: who.caller ?? anonymous,
    leaseToken: who.leaseToken,
    accepts: (type) => (c.req.header("accept") ?? "").includes(type),
    header: (name) => c.req.header(name),
    signal: AbortSignal.any([gone.signal, over.signal, options.stopping]),
    request,
  };
  await compareIfMatch(route, call);
  const key = c.req.header("idempotency-key");
  if (route.creates && key !== undefined) {
    const scope = `${call.caller.name} ${route.method} ${c.req.path}`;
    const done = await once.run(scope, key, text, async () => {
      const value = await route.handle(call);
      assert(!(value instanceof Response), `${route.path} creates and streams`);
      return { status: route.answer.status, json: JSON.stringify(answered(route, value, options)) };
    });
    return jsonAnswer(done.json, done.status, locationOf(route, JSON.parse(done.json)));
  }
  const value = await route.handle(call);
  if (value instanceof Response) return value;
  if (route.answer.status === 204) return new Response(null, { status: 204 });
  const json = JSON.stringify(answered(route, value, options));
  if (!route.single) return jsonAnswer(json, route.answer.status, locationOf(route, value));
  const etag = etagOf(json);
  if (matches(call.header("if-none-match"), etag)) {
    return new Response(null, { status: 304, headers: { etag } });
  }
  return jsonAnswer(json, route.answer.status, { etag });
}

function locationOf(route: Route, made: unknown): Record<string, string> {
  return route.location ? { location: route.location(made as never) } : {};
}

/** Who asks, for the count of calls under way. */
function shareOf({ token, leaseToken }: Identity, request: IncomingMessage): Share {
  if (token !== undefined) return { key: sha256Hex(token), most: limits.callsPerToken };
  if (leaseToken !== undefined) return { key: sha256Hex(leaseToken), most: limits.callsPerLease };
  return { key: request.socket.remoteAddress ?? "", most: limits.callsPerSource };
}

/** The answer as it is; one that its own schema does not know is our mistake, and logged. */
function answered(route: Route, value: unknown, options: EngineOptions): unknown {
  const checked = route.answer.schema?.safeParse(value);
  if (checked && !checked.success) {
    const faults = faultsOf("body", checked.error.issues).slice(0, 5);
    options.log.error({ path: route.path, faults }, "an answer does not fit its schema");
  }
  return value;
}

function jsonAnswer(json: string, status: number, headers: Record<string, string> = {}): Response {
  return new Response(json, {
    status,
    headers: { "content-type": "application/json", "cache-control": "no-store", ...headers },
  });
}

export function etagOf(json: string): string {
  return `"${sha256Hex(json).slice(0, 24)}"`;
}

/** RFC 9110 §13.1: `*`, or one of a list; weak ones compare as strong. */
export function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === "*") return true;
  return header.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag);
}

async function compareIfMatch(route: Route, call: AnyCall): Promise<void> {
  const wanted = call.header("if-match");
  if (wanted === undefined || !route.current) return;
  const etag = etagOf(JSON.stringify(await route.current(call.params)));
  if (!matches(wanted, etag)) {
    fail("precondition-failed", "it has changed since you looked", {
      remedy: "read it again, then decide again",
    });
  }
}

function check(part: string, schema: z.ZodType | undefined, value: unknown): unknown {
  if (!schema) {
    const extra = Object.keys(value as object)[0];
    if (part === "query" && extra !== undefined) {
      fail("bad-request", `the query is not as it should be: ${extra} is not known here`);
    }
    return value;
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const faults = faultsOf(part, result.error.issues);
  const one = faults[0];
  return fail(
    "bad-request",
    `the ${part} is not as it should be: ${one ? `${one.pointer || "/"}: ${one.detail}` : "?"}`,
    { faults },
  );
}

function queryOf(c: Context<NodeEnv>): Record<string, string | string[]> {
  const query: Record<string, string | string[]> = {};
  for (const [name, values] of Object.entries(c.req.queries())) {
    query[name] = values.length === 1 ? values[0]! : values;
  }
  return query;
}

async function readBody(request: IncomingMessage): Promise<string> {
  const type = (request.headers["content-type"] ?? "").split(";")[0]!.trim().toLowerCase();
  const length = Number(request.headers["content-length"] ?? Number.NaN);
  const empty = length === 0 || (Number.isNaN(length) && !request.headers["transfer-encoding"]);
  if (!empty && type !== "application/json") {
    fail("unsupported-media-type", `bodies are application/json here, not ${type || "untyped"}`);
  }
  if (length > limits.requestBytes) tooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limits.requestBytes) tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function tooLarge(): never {
  return fail("too-large", `a body may have ${limits.requestBytes} bytes at most`);
}

function parseJson(text: string): unknown {
  if (text === "") return {};
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    return fail("bad-request", `the body is not JSON: ${describeError(error)}`);
  }
}
