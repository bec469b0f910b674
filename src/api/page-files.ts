/**
 * The pages people look at: static files of `page/`, the same for everybody, which call the
 * public API from the browser. They hold no data, so they need no token to be read.
 */
import { readdir, readFile } from "node:fs/promises";
import { assert } from "../base/assert.ts";
import { etagOf, matches } from "./engine.ts";

export type Pages = {
  /** The answer for a path, or undefined where no page stands. */
  serve(path: string, ifNoneMatch: string | undefined): Response | undefined;
  /** For a browser that asks for a page that is not there: 404 in words. */
  missing(): Response;
};

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

/** Scripts, styles and calls of this origin alone; nobody may frame it. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; " +
  "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; " +
  "frame-ancestors 'none'";

export async function loadPages(folder: URL = new URL("./page/", import.meta.url)): Promise<Pages> {
  const files = new Map<string, { text: string; type: string; etag: string }>();
  for (const name of await readdir(folder)) {
    const type = types[name.slice(name.lastIndexOf(".") + 1)];
    if (!type) continue;
    const text = await readFile(new URL(name, folder), "utf8");
    files.set(name, { text, type, etag: etagOf(text) });
  }
  const headersOf = (type: string): Record<string, string> => ({
    "content-type": type,
    "content-security-policy": policy,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-cache",
  });
  const missing = files.get("missing.html");
  assert(missing, "missing.html is not there");
  return {
    missing: () => new Response(missing.text, { status: 404, headers: headersOf(missing.type) }),
    serve(path, ifNoneMatch) {
      const file = files.get(nameOf(path));
      if (!file) return undefined;
      const headers = { ...headersOf(file.type), etag: file.etag };
      if (matches(ifNoneMatch, file.etag)) return new Response(null, { status: 304, headers });
      return new Response(file.text, { headers });
    },
  };
}

function nameOf(path: string): string {
  if (path === "/") return "yard.html";
  if (/^\/(changes|builds|racks|leases)$/.test(path)) return "list.html";
  if (/^\/builds\/[0-9a-f][0-9a-f-]{3,35}$/.test(path)) return "build.html";
  if (/^\/changes\/[0-9]{1,9}$/.test(path)) return "change.html";
  return /^\/assets\/([a-z0-9-]+\.(?:css|js|svg))$/.exec(path)?.[1] ?? "";
}
