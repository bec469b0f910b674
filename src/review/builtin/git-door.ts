/**
 * `/git/…` of the review system: who may fetch and push, then git's smart HTTP. Reading needs no
 * token on loopback (surface.md §4); pushing needs a developer's. Also the commit-msg hook's text.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Repositories } from "../../git/repositories.ts";
import { parseGitRoute, refuse } from "../../git/smart-http.ts";
import type { GitRoute, GitServer } from "../../git/smart-http.ts";
import { mayAct } from "../../model/identity.ts";
import type { Caller } from "../../model/identity.ts";
import { commitMsgHook } from "./commit-msg-hook.ts";
import type { HookDoor } from "./hook-door.ts";
import { mayPushDirectly } from "./labels.ts";

export type GitDoor = (
  request: IncomingMessage,
  response: ServerResponse,
  caller: Caller | undefined,
) => Promise<void>;

export type GitDoorParts = {
  readonly repositories: Repositories;
  /** Whether the layout names the project. */
  readonly knows: (project: string) => boolean;
  readonly server: GitServer;
  readonly hooks: HookDoor;
  /** The folder of git's hooks. */
  readonly hooksPath: string;
  readonly anonymousRead: "loopback" | "off";
  /** `/changes/?q=…` for whoever may read. */
  readonly query: (query: URLSearchParams, response: ServerResponse) => Promise<void>;
  /** After a push that may have written a branch. */
  readonly settle: (project: string, by: string) => Promise<void>;
};

/** Ours, and Gerrit's, which its clients ask for. */
const hookPaths = ["/git/hooks/commit-msg", "/tools/hooks/commit-msg"];

export function openGitDoor(parts: GitDoorParts): GitDoor {
  return async (request, response, caller) => {
    const path = (request.url ?? "").split("?", 1)[0];
    if (hookPaths.includes(path ?? "") && ["GET", "HEAD"].includes(request.method ?? "")) {
      response.writeHead(200, { "Content-Type": "text/x-shellscript; charset=utf-8" });
      response.end(request.method === "HEAD" ? undefined : commitMsgHook);
      return;
    }
    if (path === "/changes/") {
      const query = new URLSearchParams((request.url ?? "").split("?")[1] ?? "");
      if (caller || mayReadAnonymously(parts, request)) await parts.query(query, response);
      else refuse(response, 401, "this takes a token", challenge);
      return;
    }
    const route = parseGitRoute(request.method ?? "", request.url ?? "", "/git");
    if (!route) {
      refuse(response, 404, "no git here: the address is /git/<project>");
      return;
    }
    const problem = accessProblem(parts, route, request, caller);
    if (problem === "who") {
      refuse(
        response,
        401,
        "this takes a token: the user's name, and the token as password",
        challenge,
      );
      return;
    }
    if (problem) {
      refuse(response, 403, problem);
      return;
    }
    if (!parts.knows(route.project) || !parts.repositories.has(route.project)) {
      refuse(response, 404, `there is no project ${route.project}: the layout names the projects`);
      return;
    }
    await (route.service === "git-receive-pack" && caller
      ? servePush(parts, request, response, route, caller)
      : serveFetch(parts, request, response, route));
  };
}

/** `who`: a token is missing; else a sentence; undefined: may. */
function accessProblem(
  parts: GitDoorParts,
  route: GitRoute,
  request: IncomingMessage,
  caller: Caller | undefined,
): string | undefined {
  if (route.service === "git-receive-pack") {
    if (!caller) return "who";
    if (mayAct(caller.role, "developer")) return undefined;
    return `${caller.name} is a ${caller.role}: to push takes a developer`;
  }
  return caller || mayReadAnonymously(parts, request) ? undefined : "who";
}

const challenge = { "WWW-Authenticate": 'Basic realm="rackyard", charset="UTF-8"' };

function mayReadAnonymously(parts: GitDoorParts, request: IncomingMessage): boolean {
  const open = parts.anonymousRead === "loopback" && isLoopback(request.socket.remoteAddress);
  // a token that is sent and wrong is refused, not overlooked
  return open && request.headers.authorization === undefined;
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(?:::ffff:)?127\.|^::1$/.test(address);
}

async function serveFetch(
  parts: GitDoorParts,
  request: IncomingMessage,
  response: ServerResponse,
  route: GitRoute,
): Promise<void> {
  const repository = parts.repositories.path(route.project);
  await parts.server.serve(request, response, { route, repository });
}

async function servePush(
  parts: GitDoorParts,
  request: IncomingMessage,
  response: ServerResponse,
  route: GitRoute,
  caller: Caller,
): Promise<void> {
  const repository = parts.repositories.path(route.project);
  const push = parts.hooks.begin({ project: route.project, caller }, repository);
  await parts.server.serve(request, response, {
    route,
    repository,
    env: push.env,
    config: [
      `core.hooksPath=${parts.hooksPath}`,
      "receive.procReceiveRefs=refs/for",
      // a tag that comes along is refused for itself there
      ...(mayPushDirectly(caller) ? [] : ["receive.procReceiveRefs=refs/tags"]),
      "receive.hideRefs=refs/changes",
    ],
    async after() {
      push.end();
      if (push.direct) await parts.settle(route.project, caller.name);
    },
  });
}
