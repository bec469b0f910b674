/**
 * The nodes' door (surface.md §4): the merger's repositories, to be fetched from, on the test
 * network. GET `/git/<project>/info/refs?service=git-upload-pack` and POST
 * `/git/<project>/git-upload-pack`, and nothing else: whoever is on a node, is anonymous here.
 * The address it listens on exists once the cell does; until then it is tried again.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { pause } from "../base/wait.ts";
import type { Git } from "./git-command.ts";
import type { Repositories } from "./repositories.ts";
import type { PlaceLimits } from "./places-of-clients.ts";
import { openGitServer, parseGitRoute, refuse } from "./smart-http.ts";
import type { GitServer } from "./smart-http.ts";

export type NodesDoor = AsyncDisposable & {
  /**
   * Listens, waiting until the address exists on this machine; port 0 is any. Once a door.
   * Throws `port-taken`, or the signal's reason.
   */
  listen(address: string, port: number, signal: AbortSignal): Promise<AddressInfo>;
  /** git children that serve now, and clients that wait for one. */
  readonly active: number;
  readonly waiting: number;
  /** `http://address:port`, once it listens: the ZUUL_URL and GIT_BASE are below it, in /git. */
  url(): string | undefined;
};

export function openNodesDoor(options: {
  readonly git: Git;
  /** The merger's. */
  readonly repositories: Repositories;
  readonly log: Log;
  /** A client that is silent in the middle of an exchange is cut after so long. */
  readonly silenceMs?: number;
  /** Limits of the queue; by default those of base/limits.ts. */
  readonly places?: PlaceLimits;
}): NodesDoor {
  const { repositories, log } = options;
  const stop = new AbortController();
  const gitServer = openGitServer({ ...options, signal: stop.signal });
  const answering = new Set<Promise<void>>();
  // Node looks at unfinished headers only so often.
  const manners = { connectionsCheckingInterval: 1_000, headersTimeout: limits.headersMs };
  const server = createServer(manners, (request, response) => {
    const answer = serveDoor(gitServer, repositories, request, response)
      .catch((error: unknown) => {
        log.error({ err: error }, "nodes' door: a request failed");
        response.destroy();
      })
      .finally(() => answering.delete(answer));
    answering.add(answer);
  });
  server.maxConnections = limits.nodesDoorConnections;
  server.requestTimeout = limits.gitMs;
  server.maxHeadersCount = 50;
  shareConnections(server, limits.nodesDoorConnectionsPerSource);
  return {
    get active() {
      return gitServer.active;
    },
    get waiting() {
      return gitServer.waiting;
    },
    async listen(address, port, signal) {
      for (;;) {
        signal.throwIfAborted();
        if (await bind(server, address, port)) break;
        await pause(limits.pollMs * 5, signal);
      }
      const bound = server.address() as AddressInfo;
      log.info({ address: bound.address, port: bound.port }, "nodes' door listens");
      return bound;
    },
    url() {
      const bound = server.address() as AddressInfo | null;
      return bound ? `http://${bound.address}:${bound.port}` : undefined;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      if (server.listening) {
        const closed = once(server, "close");
        server.close();
        server.closeAllConnections();
        await closed;
      }
      await Promise.allSettled(answering);
    },
  };
}

/** One address has at most so many connections; what comes above is closed at once. */
function shareConnections(server: Server, most: number): void {
  const open = new Map<string, number>();
  server.on("connection", (socket) => {
    const source = socket.remoteAddress ?? "";
    const now = (open.get(source) ?? 0) + 1;
    if (now > most) {
      socket.destroy();
      return;
    }
    open.set(source, now);
    socket.once("close", () => {
      const left = open.get(source)! - 1;
      if (left > 0) open.set(source, left);
      else open.delete(source);
    });
  });
}

/** True when bound; false while the address does not exist. */
async function bind(server: Server, address: string, port: number): Promise<boolean> {
  try {
    server.listen({ host: address, port });
    await once(server, "listening");
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EADDRNOTAVAIL") return false;
    if (code === "EADDRINUSE") {
      fail("port-taken", `nodes' door: ${address}:${port} is taken`, {
        cause: error,
        remedy: "choose another server.nodesDoorPort",
      });
    }
    throw error;
  }
}

async function serveDoor(
  gitServer: GitServer,
  repositories: Repositories,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const route = parseGitRoute(request.method ?? "", request.url ?? "", "/git");
  if (route?.service === "git-receive-pack") {
    refuse(response, 403, "nothing can be pushed here");
    return;
  }
  if (!route || !repositories.has(route.project)) {
    refuse(response, 404, "there is nothing here");
    return;
  }
  // frozen states are fetched by their commits; as a list they would only be long
  const config = ["uploadpack.hideRefs=refs/frozen"];
  await gitServer.serve(request, response, {
    route,
    repository: repositories.path(route.project),
    config,
  });
}
