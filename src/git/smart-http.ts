/**
 * git's smart HTTP (gitprotocol-http(5)) over one request and answer: the body goes to a child
 * `git upload-pack` or `git receive-pack`, its output to the client, both streamed and bounded.
 * Who may do what, and which repository a path means, is decided by the caller. A child whose
 * client has gone is ended; each is reaped before the call returns.
 */
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import type { Child } from "../base/command.ts";
import { fail, isRackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import type { Git } from "./git-command.ts";
import { openPlaces } from "./places-of-clients.ts";
import type { PlaceLimits } from "./places-of-clients.ts";
import { encodePacket, flushPacket } from "./pkt-line-codec.ts";
import { isProjectName } from "./project-name.ts";

export type GitService = "git-upload-pack" | "git-receive-pack";

export type GitRoute = {
  readonly project: string;
  readonly service: GitService;
  /** `info`: the list of refs; `rpc`: the exchange itself. */
  readonly kind: "info" | "rpc";
};

/**
 * What a request means: GET `<prefix>/<project>/info/refs?service=…`, or POST
 * `<prefix>/<project>/git-…-pack`. Undefined for every other path or method.
 */
export function parseGitRoute(method: string, url: string, prefix: string): GitRoute | undefined {
  const match = /^([^?#]*)(?:\?([^#]*))?$/.exec(url);
  const path = match?.[1] ?? "";
  if (!path.startsWith(`${prefix}/`)) return undefined;
  const rest = path.slice(prefix.length + 1);
  const parts = /^(.+?)(?:\.git)?\/(info\/refs|git-upload-pack|git-receive-pack)$/.exec(rest);
  const project = parts?.[1] ?? "";
  if (!isProjectName(project)) return undefined;
  if (parts?.[2] === "info/refs") {
    const service = new URLSearchParams(match?.[2] ?? "").get("service") ?? "";
    return method === "GET" && isService(service) ? { project, service, kind: "info" } : undefined;
  }
  const service = parts?.[2] ?? "";
  return method === "POST" && isService(service) ? { project, service, kind: "rpc" } : undefined;
}

function isService(text: string): text is GitService {
  return text === "git-upload-pack" || text === "git-receive-pack";
}

export type ServeRequest = {
  readonly route: GitRoute;
  readonly repository: string;
  /** `key=value` of git's configuration for this child. */
  readonly config?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Runs after the child has ended and before the client's answer does. */
  readonly after?: () => Promise<void>;
};

export type GitServer = {
  /** Answers the request; never throws for what client or git do wrong. */
  serve(request: IncomingMessage, response: ServerResponse, what: ServeRequest): Promise<void>;
  /** Children that serve now. */
  readonly active: number;
  /** Clients that wait for one. */
  readonly waiting: number;
};

export type GitServerOptions = {
  readonly git: Git;
  readonly log: Log;
  readonly signal?: AbortSignal;
  readonly silenceMs?: number;
  readonly places?: PlaceLimits;
};

const usualPlaces: PlaceLimits = {
  places: limits.gitChildren,
  placesPerSource: limits.gitChildrenPerSource,
  waiting: limits.gitWaiting,
  waitingPerSource: limits.gitWaitingPerSource,
  waitMs: limits.gitMs,
};

/** At most `limits.gitChildren` children at once; who comes then waits, shared by addresses. */
export function openGitServer(options: GitServerOptions): GitServer {
  const places = openPlaces(options.places ?? usualPlaces);
  return {
    get active() {
      return places.taken;
    },
    get waiting() {
      return places.waiting;
    },
    async serve(request, response, what) {
      const gone = new AbortController();
      response.once("close", () => gone.abort());
      const signals = options.signal ? [options.signal, gone.signal] : [gone.signal];
      const source = request.socket.remoteAddress ?? "a socket file";
      let give: () => void;
      try {
        give = await places.take(source, AbortSignal.any(signals));
      } catch (error) {
        if (isRackyardError(error)) refuse(response, 503, error.message, { "Retry-After": "5" });
        else response.destroy();
        return;
      }
      try {
        await exchange(options, request, response, what);
      } finally {
        give();
      }
    },
  };
}

async function exchange(
  { git, log, signal, silenceMs = limits.gitSilenceMs }: GitServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
  what: ServeRequest,
): Promise<void> {
  const { route } = what;
  const rpc = route.kind === "rpc";
  const most = route.service === "git-upload-pack" ? limits.fetchRequestBytes : limits.pushBytes;
  const problem = rpc ? bodyProblem(request, route.service, most) : undefined;
  if (problem) {
    refuse(response, problem.status, problem.sentence);
    return;
  }
  const child = git.start(
    [
      ...(what.config ?? []).flatMap((pair) => ["-c", pair]),
      route.service.slice("git-".length),
      "--stateless-rpc",
      ...(rpc ? [] : ["--http-backend-info-refs"]),
      what.repository,
    ],
    { ...what.env, ...protocolVersion(request, route.service) },
  );
  const stop = (): void => void child.end();
  const timer = setTimeout(stop, limits.gitTransferMs);
  response.once("close", stop);
  signal?.addEventListener("abort", stop, { once: true });
  const stderr = keepTail(child);
  let whole = false;
  try {
    response.writeHead(200, {
      "Content-Type": `application/x-${route.service}-${rpc ? "result" : "advertisement"}`,
      "Cache-Control": "no-cache, max-age=0, must-revalidate",
    });
    if (!rpc) response.write(announcement(request, route.service));
    // of a push that git refused while it came, the rest is dropped: the client listens afterwards
    const room = route.service === "git-upload-pack" ? most : 2 * most;
    const feeding = feed(child, rpc ? bodyOf(request) : undefined, room, silenceMs).catch(
      (error: unknown) => {
        log.info({ project: route.project, err: error }, "git: a request was cut");
        response.destroy();
        return child.end();
      },
    );
    await deliver(child.stdout!, response, silenceMs);
    const exit = await child.exited;
    await feeding;
    if (exit.code !== 0) {
      const facts = { project: route.project, service: route.service, exit, said: stderr() };
      log.info(facts, "git: the exchange ended with an error");
    }
    whole = !response.destroyed;
  } catch (error) {
    log.debug({ project: route.project, err: error }, "git: the client went away");
    await child.end();
  } finally {
    clearTimeout(timer);
    response.off("close", stop);
    signal?.removeEventListener("abort", stop);
  }
  await what.after?.();
  if (whole) response.end();
  else response.destroy();
}

/** git's output to the client; throws when the client takes nothing for so long, or goes away. */
async function deliver(output: Readable, response: ServerResponse, silenceMs: number) {
  for await (const chunk of output) {
    if (response.destroyed) fail("not-running", "the client went away");
    if (response.write(chunk as Buffer)) continue;
    await waitedFor(silenceMs, "the client takes nothing", (signal) =>
      Promise.race([once(response, "drain", { signal }), once(response, "close", { signal })]),
    );
  }
}

/** What `wait` gives; throws `timed-out` when it gives nothing for so long. */
async function waitedFor<T>(
  ms: number,
  what: string,
  wait: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const end = new AbortController();
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    try {
      fail("timed-out", `${what} for ${ms} ms`);
    } catch (error) {
      late.reject(error);
    }
  }, ms);
  try {
    return await Promise.race([late.promise, wait(end.signal)]);
  } finally {
    clearTimeout(timer);
    end.abort();
  }
}

function bodyProblem(
  request: IncomingMessage,
  service: GitService,
  most: number,
): { status: number; sentence: string } | undefined {
  const type = request.headers["content-type"];
  if (type !== `application/x-${service}-request`) {
    return { status: 415, sentence: `the body must be application/x-${service}-request` };
  }
  if (!["gzip", "x-gzip", "identity"].includes(request.headers["content-encoding"] ?? "identity")) {
    return { status: 415, sentence: "the body must be plain or gzip" };
  }
  if (Number(request.headers["content-length"] ?? 0) > most) {
    return { status: 413, sentence: `more than ${most} bytes in one request` };
  }
  return undefined;
}

/** The body as git reads it: unpacked. */
function bodyOf(request: IncomingMessage): Readable {
  if ((request.headers["content-encoding"] ?? "identity") === "identity") return request;
  const unpacked = createGunzip();
  // a failure of either ends the other, and reaches whoever reads
  pipeline(request, unpacked).catch(() => undefined);
  return unpacked;
}

/**
 * Gives the child its input. A child that ends before it has read all (a pack that is too long)
 * still has something to say: the rest is read and dropped, so that the client listens. What is
 * counted is what git reads: a request grows to a thousand times its size when it is unpacked.
 * Throws `too-large`, `timed-out` when the client stops in the middle, or the stream's error.
 */
async function feed(
  child: Child,
  body: Readable | undefined,
  most: number,
  silenceMs: number,
): Promise<void> {
  const stdin = child.stdin!;
  let open = true;
  stdin.on("error", () => undefined);
  const closed = once(stdin, "close").then(() => (open = false));
  closed.catch(() => undefined);
  let bytes = 0;
  const chunks = (body ?? Readable.from([]))[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await waitedFor(silenceMs, "the client sends nothing", () => chunks.next());
      if (next.done) break;
      const chunk = next.value as Buffer;
      bytes += chunk.length;
      if (bytes > most) fail("too-large", `more than ${most} bytes`);
      if (open && !stdin.write(chunk)) {
        await Promise.race([once(stdin, "drain"), closed]).catch(() => undefined);
      }
    }
  } catch (error) {
    body?.destroy();
    throw error;
  }
  stdin.end();
}

/** Version 2 is for fetching; git has none for pushing (gitprotocol-v2(5)). */
function protocolVersion(request: IncomingMessage, service: GitService): Record<string, string> {
  const asked = String(request.headers["git-protocol"] ?? "");
  const known =
    service === "git-upload-pack" && /^version=[012](?::[a-z0-9=-]{1,50})*$/.test(asked);
  return known ? { GIT_PROTOCOL: asked } : {};
}

function announcement(request: IncomingMessage, service: GitService): Uint8Array {
  const version = protocolVersion(request, service)["GIT_PROTOCOL"] ?? "";
  if (version.startsWith("version=2")) return Buffer.alloc(0);
  return Buffer.concat([encodePacket(`# service=${service}\n`), flushPacket]);
}

function keepTail(child: Child): () => string {
  let tail = "";
  child.stderr!.on("data", (chunk: Buffer) => {
    tail = (tail + chunk.toString("utf8")).slice(-1_000);
  });
  return () => tail.trim();
}

/** A sentence that the git client shows as `remote: …` (it does so for text/plain). */
export function refuse(
  response: ServerResponse,
  status: number,
  sentence: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "X-Content-Type-Options": "nosniff",
    ...headers,
  });
  response.end(`${sentence}\n`);
}
