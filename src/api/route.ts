/**
 * What a route of the API is: its path, who may call it, the schemas of what goes in and comes
 * out, and the function behind it. Routes are data: the engine checks requests by them, and the
 * OpenAPI document is made of them, so neither can say what the other does not do.
 */
import type { IncomingMessage } from "node:http";
import type { z } from "@hono/zod-openapi";
import type { Caller, Role } from "../model/identity.ts";

export type Method = "get" | "post" | "put" | "patch" | "delete";

/** Who may call. */
export type Access =
  /** Anybody, without a token. */
  | { readonly kind: "public" }
  /** Whoever has this role or more. */
  | { readonly kind: "role"; readonly role: Role }
  /** The lease's own token alone (surface.md §6). */
  | { readonly kind: "lease" }
  /** The lease's own token, or whoever has this role. */
  | { readonly kind: "lease-or-role"; readonly role: Role }
  /** Only through the socket file: hosts of this machine. */
  | { readonly kind: "socket" };

export type Call<Params, Query, Body> = {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** Anonymous where the route is public, or the caller has only a lease's token. */
  readonly caller: Caller;
  /** `ryl_…`, as it came. */
  readonly leaseToken: string | undefined;
  /** Media types of `Accept`, in no order. */
  readonly accepts: (type: string) => boolean;
  readonly header: (name: string) => string | undefined;
  /** Aborted when the caller has gone or the server stops. */
  readonly signal: AbortSignal;
  readonly request: IncomingMessage;
};

export type Answer = {
  readonly status: 200 | 201 | 204;
  readonly description: string;
  /** Absent: no JSON (a stream, a file, nothing). */
  readonly schema?: z.ZodType;
  readonly type?: string;
};

export type RouteSpec<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType> = {
  readonly method: Method;
  /** In OpenAPI's form: `/v1/leases/{id}`. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly access: Access;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly answer: Answer;
  /** One resource: has an ETag, and may be asked for with If-None-Match. */
  readonly single?: boolean;
  /** Makes something: an `Idempotency-Key` makes a second try the same (surface.md §5). */
  readonly creates?: boolean;
  /** Address of what was made or added to, out of the answer: the header `Location`. */
  readonly location?: (made: never) => string;
  /** The resource that an `If-Match` is compared with before it is changed. */
  readonly current?: (params: z.output<P>) => Promise<object>;
  /** Gives the answer's value, or a Response of its own. */
  readonly handle: (call: Call<z.output<P>, z.output<Q>, z.output<B>>) => Promise<unknown>;
};

export type Route = RouteSpec<z.ZodType, z.ZodType, z.ZodType>;

/** Takes a route's types off, once its function has been checked against its schemas. */
export function route<P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType>(
  spec: RouteSpec<P, Q, B>,
): Route {
  return spec as unknown as Route;
}

export const anonymous: Caller = { name: "anonymous", role: "reader", groups: [] };
