/**
 * `/logs/…`: archived files over HTTP. They are other people's, on our origin (surface.md §4):
 * everything is sandboxed by CSP, nothing is sniffed, text is text/plain; no cookie means a
 * thing here. Paths are resolved inside the archive; the only link followed is `rack`.
 */
import { createReadStream } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { sizeText, text } from "./index-page.ts";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".json": "application/json",
  ".jsonl": "text/plain; charset=utf-8",
  ".log": "text/plain; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".missing": "text/plain; charset=utf-8",
  ".gz": "application/gzip",
  ".png": "image/png",
};

/** Serves GET and HEAD below `/logs/`; ranges are for big consoles (RFC 9110 §14, one range). */
export function serveLogs(directory: string) {
  return async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    response.setHeader(
      "content-security-policy",
      "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    );
    response.setHeader("x-content-type-options", "nosniff");
    response.setHeader("cache-control", "no-cache");
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("allow", "GET, HEAD");
      return end(response, 405, "only GET and HEAD\n");
    }
    const path = await resolve(directory, request.url ?? "/");
    if (path === undefined) return end(response, 404, "no such file in the archive\n");
    const found = await stat(path);
    if (found.isDirectory()) return listing(path, request, response);
    return file(path, found.size, request, response);
  };
}

/** The real path inside the archive, or undefined. */
async function resolve(directory: string, url: string): Promise<string | undefined> {
  try {
    const parts = decodeURIComponent(new URL(url, "http://x").pathname)
      .split("/")
      .filter((part) => part !== "");
    if (parts.shift() !== "logs" || parts.includes("..") || parts.join("").includes("\0")) {
      return undefined;
    }
    const root = await realpath(directory);
    const path = await realpath(join(root, ...parts));
    return path === root || path.startsWith(root + sep) ? path : undefined;
  } catch {
    return undefined; // no such file, or a malformed escape
  }
}

async function listing(
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const pathname = new URL(request.url ?? "/", "http://x").pathname;
  if (!pathname.endsWith("/")) {
    response.setHeader("location", `${pathname}/`);
    return end(response, 308, "");
  }
  const index = join(path, "index.html");
  const size = await stat(index).then(
    (found) => found.size,
    () => undefined,
  );
  if (size !== undefined) return file(index, size, request, response);
  const rows: string[] = [];
  for (const name of (await readdir(path)).filter((entry) => !entry.startsWith(".")).sort()) {
    const entry = await stat(join(path, name)).catch(() => undefined);
    if (!entry) continue;
    const slash = entry.isDirectory() ? "/" : "";
    const shown = entry.isDirectory() ? "" : ` ${sizeText(entry.size)}`;
    rows.push(
      `<li><a href="${encodeURIComponent(name)}${slash}">${text(name)}${slash}</a>${shown}`,
    );
  }
  response.setHeader("content-type", "text/html; charset=utf-8");
  end(
    response,
    200,
    `<!doctype html><html lang="en"><meta charset="utf-8"><title>Logs</title>` +
      `<style>:root{color-scheme:light dark;font:16px/1.5 system-ui}</style>` +
      `<h1>${text(pathname)}</h1><ul>${rows.join("\n")}</ul></html>\n`,
  );
}

async function file(
  path: string,
  size: number,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  response.setHeader("content-type", types[extname(path)] ?? "application/octet-stream");
  response.setHeader("accept-ranges", "bytes");
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const last = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  if (range && (start >= size || last < start)) {
    response.setHeader("content-range", `bytes */${size}`);
    return end(response, 416, "");
  }
  if (range) response.setHeader("content-range", `bytes ${start}-${last}/${size}`);
  response.setHeader("content-length", String(last - start + 1));
  response.statusCode = range ? 206 : 200;
  if (request.method === "HEAD" || size === 0) {
    response.end();
    return;
  }
  await pipeline(createReadStream(path, { start, end: last }), response);
}

function end(response: ServerResponse, status: number, body: string): void {
  response.statusCode = status;
  if (!response.hasHeader("content-type")) {
    response.setHeader("content-type", "text/plain; charset=utf-8");
  }
  response.end(body);
}
