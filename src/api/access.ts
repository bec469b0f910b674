/**
 * Who is asking, and whether they may (surface.md §§4, 6). Tokens are looked up by a port handed
 * in; the socket file's mode is its permission; without a token there is reading only, and only
 * on loopback. A token that is sent is always judged: a wrong one is 401, never anonymous.
 */
import type { IncomingMessage } from "node:http";
import { assertNever } from "../base/assert.ts";
import { fail } from "../base/errors.ts";
import { mayAct } from "../model/identity.ts";
import { isLoopback } from "./listen-address.ts";
import type { Caller } from "../model/identity.ts";
import { anonymous } from "./route.ts";
import type { Access } from "./route.ts";

export type Door = {
  /** The socket file: whoever may open it is admin. */
  readonly socket: boolean;
  /** Reading without a token from loopback. */
  readonly anonymousRead: boolean;
  /** Names under which this server is reached, beside loopback's own. */
  readonly hostNames: ReadonlySet<string>;
  authenticate(token: string): Promise<Caller | undefined>;
};

export type Identity = {
  /** Absent: nobody, who may not even read. */
  readonly caller: Caller | undefined;
  readonly leaseToken: string | undefined;
  /** `ry_…`, that the caller stands for. */
  readonly token?: string;
};

const local: Caller = { name: "admin", role: "admin", groups: [] };

/**
 * Who a request comes from. `basic`: a git client's user name and token count too (not
 * elsewhere: browsers keep and send such credentials by themselves). Throws `bad-token`.
 */
export async function identify(
  request: IncomingMessage,
  door: Door,
  basic = false,
): Promise<Identity> {
  const header = request.headers.authorization;
  if (header === undefined) {
    if (door.socket) return { caller: local, leaseToken: undefined };
    const known = await fromCookie(request, door);
    if (known) return known;
    return { caller: mayRead(request, door) ? anonymous : undefined, leaseToken: undefined };
  }
  const token = tokenOf(header, basic);
  if (token.secret.startsWith("ryl_")) {
    const reads = door.socket || mayRead(request, door);
    return { caller: reads ? anonymous : undefined, leaseToken: token.secret };
  }
  const caller = await door.authenticate(token.secret);
  if (!caller || (token.user !== undefined && token.user !== caller.name)) {
    fail("bad-token", "this token is not known here, or has expired", { remedy: howToGet });
  }
  return { caller, leaseToken: undefined, token: token.secret };
}

/** Set by `POST /v1/session`; holds a token. */
export const sessionCookie = "rackyard_session";

/**
 * Whoever the session's cookie names, as a reader whatever their role: a cookie is sent by the
 * browser and not by the person, so nothing that changes anything may rest on it. A cookie whose
 * token is dead counts as none: the browser keeps it, and nobody could say so to it.
 */
async function fromCookie(request: IncomingMessage, door: Door): Promise<Identity | undefined> {
  if (request.method !== "GET" && request.method !== "HEAD") return undefined;
  const path = request.url ?? "/";
  if (path.startsWith("/git/")) return undefined;
  const found = /(?:^|;) *rackyard_session=(ry_[\w-]{1,200})(?:;|$)/.exec(
    request.headers.cookie ?? "",
  );
  const token = found?.[1];
  const caller = token === undefined ? undefined : await door.authenticate(token);
  if (!caller || token === undefined) return undefined;
  return { caller: { ...caller, role: "reader" }, leaseToken: undefined, token };
}

const howToGet = "ask an admin for one: rackyard token create NAME";

/** Throws `no-token` or `not-allowed` unless the caller may. */
export function authorize(access: Access, who: Identity, door: Door): void {
  switch (access.kind) {
    case "public":
      return;
    case "socket":
      if (!door.socket) fail("not-allowed", "this is open to hosts on the socket file alone");
      return;
    case "lease":
      if (who.leaseToken === undefined) {
        fail("no-token", "this needs the lease's own token", {
          remedy: "send the token that POST /v1/leases answered as Authorization: Bearer ryl_…",
        });
      }
      return;
    case "lease-or-role":
      if (who.leaseToken === undefined) authorize({ kind: "role", role: access.role }, who, door);
      return;
    case "role":
      if (who.caller && mayAct(who.caller.role, access.role)) return;
      if (who.leaseToken !== undefined) {
        fail("not-allowed", "a lease's token opens that lease alone");
      }
      if (!who.caller || who.caller === anonymous) {
        fail("no-token", `this needs a token of the role ${access.role}`, { remedy: howToGet });
      }
      fail("not-allowed", `${who.caller.name} is ${who.caller.role}; this needs ${access.role}`);
      break;
    default:
      assertNever(access);
  }
}

function tokenOf(header: string, basic: boolean): { secret: string; user: string | undefined } {
  const [scheme = "", value = ""] = header.split(/ +/, 2);
  if (/^bearer$/i.test(scheme) && value !== "") return { secret: value, user: undefined };
  if (basic && /^basic$/i.test(scheme)) {
    const text = Buffer.from(value, "base64").toString("utf8");
    const colon = text.indexOf(":");
    if (colon >= 0) return { secret: text.slice(colon + 1), user: text.slice(0, colon) };
  }
  return fail("bad-token", "the Authorization header is not understood", {
    remedy: basic ? "the user's name and a token as password" : "Authorization: Bearer ry_…",
  });
}

function mayRead(request: IncomingMessage, door: Door): boolean {
  if (!door.anonymousRead) return false;
  if (!isLoopback(request.socket.remoteAddress ?? "")) return false;
  // A proxy on this machine speaks for somebody elsewhere.
  if (forwardedBy.some((name) => request.headers[name] !== undefined)) return false;
  // A page elsewhere may point a name of its own at 127.0.0.1: that name is not ours.
  const host = (request.headers.host ?? "").replace(/:[0-9]+$/, "").toLowerCase();
  const plain = host.replace(/^\[(.*)\]$/, "$1");
  return plain === "localhost" || isLoopback(plain) || door.hostNames.has(plain);
}

const forwardedBy = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
