/**
 * A browser's session: a token, sent once, comes back as a cookie that opens reading alone. So
 * pages, logs and consoles can be followed by links also where reading needs a token. The cookie
 * cannot be read by scripts, is not sent from other sites, and counts for GET and HEAD only.
 */
import { fail } from "../base/errors.ts";
import { sessionCookie } from "./access.ts";
import { route } from "./route.ts";
import type { Route } from "./route.ts";
import * as schemas from "./schemas.ts";

/** `secure`: the server is reached by https, so the cookie never travels without it. */
export function sessionRoutes(secure: boolean): Route[] {
  const tag = "system";
  const attributes = `Path=/; HttpOnly; SameSite=Strict${secure ? "; Secure" : ""}`;
  const answer = (cookie: string): Response =>
    new Response(null, { status: 204, headers: { "set-cookie": `${cookie}; ${attributes}` } });
  return [
    route({
      method: "post",
      path: "/v1/session",
      tag,
      summary: "A cookie for reading in a browser, for the token that is sent",
      access: { kind: "role", role: "reader" },
      body: schemas.None,
      answer: { status: 204, description: "the cookie is set, until the browser ends" },
      handle: ({ header }) => {
        const token = /^bearer +(ry_\S+)$/i.exec(header("authorization") ?? "")?.[1];
        if (token === undefined) {
          fail("no-token", "a session is made of a token", {
            remedy: "send it as Authorization: Bearer ry_…",
          });
        }
        return Promise.resolve(answer(`${sessionCookie}=${token}`));
      },
    }),
    route({
      method: "delete",
      path: "/v1/session",
      tag,
      summary: "Forget the cookie",
      access: { kind: "public" },
      answer: { status: 204, description: "the cookie is gone" },
      handle: () => Promise.resolve(answer(`${sessionCookie}=; Max-Age=0`)),
    }),
  ];
}
