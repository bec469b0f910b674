/**
 * The API's listeners: TCP addresses and the socket file `run/api.sock`, which is admin by its
 * mode. Hands git, logs and hosts' sessions to the raw handlers, all else to the engine. It
 * refuses to listen beyond loopback without TLS, unless `insecure` is spelled out (surface.md §4).
 */
import { rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import type { Hono } from "hono";
import { fail, isRackyardError, RackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { pause } from "../base/wait.ts";
import { authorize, identify } from "./access.ts";
import type { Door } from "./access.ts";
import { adminRoutes } from "./admin-routes.ts";
import { openStateReader } from "./event-state.ts";
import { buildRoutes, changeRoutes } from "./change-routes.ts";
import { engineOf } from "./engine.ts";
import type { NodeEnv } from "./engine.ts";
import { fleetRoutes } from "./fleet-routes.ts";
import type { AnswerStore } from "./idempotency.ts";
import { leaseRoutes } from "./lease-routes.ts";
import { listenFault, openListenerRemedy, splitAddress } from "./listen-address.ts";
import { documentRoute } from "./openapi.ts";
import { loadPages } from "./page-files.ts";
import { problemHeaders, problemOf } from "./problem.ts";
import { sessionRoutes } from "./session-routes.ts";
import { anonymous } from "./route.ts";
import type { Route } from "./route.ts";
import { limitConnections, openShares, openTokenWatch } from "./shares.ts";
import type { Views } from "./views.ts";

export type ApiOptions = {
  readonly views: Views;
  readonly answers: AnswerStore;
  readonly log: Log;
  readonly version: string;
  /** `address:port`; port 0 is any free one. */
  readonly listen: readonly string[];
  /** The socket file; made anew. */
  readonly socketPath: string;
  readonly anonymousRead: boolean;
  /** Names under which people reach this server, beside loopback. */
  readonly hostNames: readonly string[];
  readonly insecure: boolean;
  /** People reach it by https, through a proxy (`server.url`). */
  readonly secure?: boolean;
};

export type Api = AsyncDisposable & {
  /** `http://address:port` of each TCP listener, in the order asked for. */
  readonly urls: readonly string[];
  /** No new work; open streams and polls end, then connections. */
  close(): Promise<void>;
};

/** `secure`: people reach this server by https (`server.url`). */
export function routesOf(views: Views, version: string, secure = false): Route[] {
  const routes = [
    ...adminRoutes(views.admin, views.events, openStateReader(views)),
    ...sessionRoutes(secure),
    ...leaseRoutes(views.leases),
    ...fleetRoutes(views.fleet, views.builds),
    ...changeRoutes(views.changes),
    ...buildRoutes(views.builds),
  ];
  return [...routes, documentRoute(routes, version)];
}

/** Throws `bad-config` for an open listener, `port-taken` where one cannot be had. */
export async function openApi(options: ApiOptions): Promise<Api> {
  for (const address of options.listen) {
    const fault = listenFault(address, options.insecure);
    if (fault) fail("bad-config", `server.listen: ${fault}`, { remedy: openListenerRemedy });
  }
  const stopping = new AbortController();
  const routes = routesOf(options.views, options.version, options.secure);
  const app = engineOf(routes, {
    answers: options.answers,
    log: options.log,
    shares: openShares(),
    tokens: openTokenWatch(
      async (token) => (await options.views.admin.authenticate(token)) !== undefined,
      stopping.signal,
    ),
    stopping: stopping.signal,
  });
  await addPages(app);
  const servers: { server: Server; sockets: OpenSockets }[] = [];
  const urls: string[] = [];
  const door = (socket: boolean): Door => ({
    socket,
    anonymousRead: options.anonymousRead,
    hostNames: new Set(options.hostNames.map((name) => name.toLowerCase())),
    authenticate: (token) => options.views.admin.authenticate(token),
  });
  const close = async (): Promise<void> => {
    stopping.abort(new DOMException("the server stops", "AbortError"));
    await Promise.all(servers.map(({ server, sockets }) => closeServer(server, sockets)));
  };
  try {
    for (const address of options.listen) {
      const server = serverOf(app, door(false), options);
      servers.push({ server, sockets: socketsOf(server) });
      urls.push(await listenTcp(server, address));
    }
    const server = serverOf(app, door(true), options);
    servers.push({ server, sockets: socketsOf(server) });
    await listenSocket(server, options.socketPath);
  } catch (error) {
    await close();
    throw error;
  }
  return { urls, close, [Symbol.asyncDispose]: close };
}

async function addPages(app: Hono<NodeEnv>): Promise<void> {
  const pages = await loadPages();
  app.use(async (c, next) => {
    const read = c.req.method === "GET" || c.req.method === "HEAD";
    const page = read ? pages.serve(c.req.path, c.req.header("if-none-match")) : undefined;
    if (page) return page;
    await next();
    // The API's own paths answer problems, whoever asks.
    const elsewhere = c.res.status === 404 && !/^\/(v1|healthz|readyz|metrics)\b/.test(c.req.path);
    if (read && elsewhere && (c.req.header("accept") ?? "").includes("text/html")) {
      return pages.missing();
    }
    return undefined;
  });
}

function serverOf(app: Hono<NodeEnv>, door: Door, options: ApiOptions): Server {
  const json = getRequestListener(
    (request, env) => app.fetch(request, { ...(env as NodeEnv["Bindings"]), door }),
    { overrideGlobalObjects: false },
  );
  // a push may take as long as git's transfers do; only its headers may not
  const patience = {
    headersTimeout: limits.headersMs,
    requestTimeout: limits.gitTransferMs,
    connectionsCheckingInterval: limits.headersMs / 5,
  };
  const server = createServer(patience, (request, response) => {
    const answer = dispatch(request, response, door, options, json);
    answer.catch((error: unknown) => answerProblem(request, response, error, options.log));
  });
  server.on("upgrade", (request, socket, head) => upgrade(request, socket, head, door, options));
  if (!door.socket) limitConnections(server);
  server.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    else socket.destroy();
  });
  return server;
}

async function dispatch(
  request: IncomingMessage,
  response: ServerResponse,
  door: Door,
  options: ApiOptions,
  json: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
): Promise<void> {
  const path = (request.url ?? "/").split("?")[0]!;
  const { raw } = options.views;
  if (/^\/(?:git|tools)\/hooks\/commit-msg$/.test(path)) {
    return raw.git(request, response, undefined); // for all
  }
  if (path === "/changes/" && request.url?.includes("?")) {
    const who = await identify(request, door, true);
    authorize({ kind: "role", role: "reader" }, who, door);
    return raw.git(request, response, who.caller); // as Gerrit's clients ask
  }
  if (path.startsWith("/git/")) {
    const who = await identify(request, door, true);
    const pushes = /git-receive-pack/.test(request.url ?? "");
    const nobody = !who.caller || (pushes && who.caller === anonymous);
    if (nobody) authorize({ kind: "role", role: pushes ? "developer" : "reader" }, who, door);
    return raw.git(request, response, who.caller);
  }
  if (path.startsWith("/logs/") || path === "/logs") {
    authorize({ kind: "role", role: "reader" }, await identify(request, door), door);
    return raw.logs(request, response);
  }
  return json(request, response);
}

function answerProblem(
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
  log: Log,
): void {
  if (!isRackyardError(error)) log.error({ err: error, url: request.url }, "request failed");
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const body = problemOf(error);
  const headers = problemHeaders(body.status);
  const git = /^\/(?:git|changes)\//.test(request.url ?? "");
  if (git && body.status === 401) headers["www-authenticate"] = 'Basic realm="rackyard"';
  response.writeHead(body.status, { ...headers, connection: "close" });
  response.end(JSON.stringify(body));
}

function upgrade(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  door: Door,
  options: ApiOptions,
): void {
  const path = (request.url ?? "").split("?")[0];
  if (path === "/v1/hosts/session" && door.socket) {
    options.views.raw.hostSession(request, socket, head);
    return;
  }
  const status = path === "/v1/hosts/session" ? "403 Forbidden" : "404 Not Found";
  socket.on("error", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
}

async function listenTcp(server: Server, address: string): Promise<string> {
  const { host, port } = splitAddress(address);
  await listening(server, address, () => server.listen(port, host));
  const bound = server.address() as AddressInfo;
  const shown = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return `http://${shown}:${bound.port}`;
}

async function listenSocket(server: Server, path: string): Promise<void> {
  await rm(path, { force: true });
  // The file is made while listen() runs: nobody finds it with a wider mode.
  const mask = process.umask(0o177);
  try {
    await listening(server, path, () => {
      server.listen(path);
      process.umask(mask);
    });
  } finally {
    process.umask(mask);
  }
}

async function listening(server: Server, address: string, start: () => void): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("listening", resolve);
    server.once("error", (error: NodeJS.ErrnoException) => {
      reject(error.code === "EADDRINUSE" ? portTaken(address, error) : error);
    });
    start();
  });
}

function portTaken(address: string, cause: Error): RackyardError {
  return new RackyardError("port-taken", `${address} is taken by another program`, {
    cause,
    remedy: "stop that program, or choose another address: server.listen, port 0 is any free one",
  });
}

type OpenSockets = { readonly all: Set<Socket>; readonly upgraded: Set<Duplex> };

/** A connection that was upgraded is no longer HTTP's: closing its server waits for it for ever. */
function socketsOf(server: Server): OpenSockets {
  const sockets: OpenSockets = { all: new Set(), upgraded: new Set() };
  server.on("connection", (socket: Socket) => {
    sockets.all.add(socket);
    socket.once("close", () => {
      sockets.all.delete(socket);
      sockets.upgraded.delete(socket);
    });
  });
  server.on("upgrade", (_request, socket) => void sockets.upgraded.add(socket));
  return sockets;
}

/**
 * Streams were told to end; hosts dial again when their connection ends; what is still open after
 * the grace is cut, whatever it became.
 */
async function closeServer(server: Server, sockets: OpenSockets): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  for (const socket of sockets.upgraded) socket.destroy();
  // A connection is kept by its client after its stream has ended: it is idle then.
  const idle = setInterval(() => server.closeIdleConnections(), limits.pollMs);
  const cut = new AbortController();
  const grace = pause(limits.childGraceMs, cut.signal).then(
    () => {
      for (const socket of sockets.all) socket.destroy();
    },
    () => undefined,
  );
  await closed;
  clearInterval(idle);
  cut.abort();
  await grace;
}
