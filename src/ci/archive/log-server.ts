/**
 * `/logs/…`: archived files over HTTP. They are other people's, on our origin (surface.md §4):
 * everything is sandboxed by CSP, nothing is sniffed, text is text/plain; no cookie means a
 * thing here. Paths are the store's; its own records, which begin with a dot, are not served.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { StoredEntry, StoredFile } from "./archive-store.ts";
import { sizeText, text } from "./index-page.ts";

/** What is served; the archive has this shape. */
export type ServedArchive = {
  open(path: string): Promise<StoredFile | undefined>;
  entries(folder: string): Promise<StoredEntry[]>;
};

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

/** Shorter ones are not worth it. */
const GZIP_FROM_BYTES = 1024;

/** Serves GET and HEAD below `/logs/`; ranges are for big consoles (RFC 9110 §14, one range). */
export function serveLogs(archive: ServedArchive) {
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
    const path = pathOf(request.url ?? "/");
    const found = path === undefined ? undefined : await archive.open(path);
    if (found) return file(path!, found, request, response);
    const entries = path === undefined ? [] : await archive.entries(path);
    if (path === undefined || (entries.length === 0 && path !== "")) {
      return end(response, 404, "no such file in the archive\n");
    }
    return listing(archive, path, entries, request, response);
  };
}

/** The path inside the archive, or undefined where there can be none. */
function pathOf(url: string): string | undefined {
  try {
    const parts = decodeURIComponent(new URL(url, "http://x").pathname)
      .split("/")
      .filter((part) => part !== "");
    if (parts.shift() !== "logs" || parts.includes("..") || parts.join("").includes("\0")) {
      return undefined;
    }
    return parts[0]?.startsWith(".") ? undefined : parts.join("/");
  } catch {
    return undefined; // a malformed escape
  }
}

async function listing(
  archive: ServedArchive,
  path: string,
  entries: readonly StoredEntry[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { pathname } = new URL(request.url ?? "/", "http://x");
  if (!pathname.endsWith("/")) {
    response.setHeader("location", `${pathname}/`);
    return end(response, 308, "");
  }
  const index = path === "" ? undefined : await archive.open(`${path}/index.html`);
  if (index) return file("index.html", index, request, response);
  const rows = entries
    .filter(({ name }) => path !== "" || !name.startsWith(".")) // ours alone begin so
    .map(({ name, bytes }) => {
      const slash = bytes === undefined ? "/" : "";
      const shown = bytes === undefined ? "" : ` ${sizeText(bytes)}`;
      const href = `./${encodeURIComponent(name)}${slash}`;
      return `<li><a href="${href}">${text(name)}${slash}</a>${shown}`;
    });
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
  found: StoredFile,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const size = found.bytes;
  const type = types[extname(path)] ?? "application/octet-stream";
  response.setHeader("content-type", type);
  response.setHeader("accept-ranges", "bytes");
  const range = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? "");
  const wanted = range && rangeOf(range[1]!, range[2]!, size);
  if (range && wanted === undefined) {
    response.setHeader("content-range", `bytes */${size}`);
    return end(response, 416, "");
  }
  // a range counts bytes of the file itself: whoever asks for one gets it as it is
  const packs = /^text\/|json$/.test(type) && size >= GZIP_FROM_BYTES;
  if (packs) response.setHeader("vary", "accept-encoding");
  const packed = packs && !wanted && /\bgzip\b/.test(request.headers["accept-encoding"] ?? "");
  response.statusCode = wanted ? 206 : 200;
  if (wanted) response.setHeader("content-range", `bytes ${wanted.start}-${wanted.end}/${size}`);
  if (packed) response.setHeader("content-encoding", "gzip");
  else {
    const bytes = wanted ? wanted.end - wanted.start + 1 : size;
    response.setHeader("content-length", String(bytes));
  }
  if (request.method === "HEAD" || size === 0) {
    response.end();
    return;
  }
  // Of a console that grows, no more than was announced.
  const stream = found.read(wanted ?? { start: 0, end: size - 1 });
  if (packed) await pipeline(stream, createGzip({ level: 4 }), response);
  else await pipeline(stream, response);
}

/** RFC 9110 §14.1.2: `5-9`, `5-`, and `-5` for the last five; undefined: not satisfiable. */
function rangeOf(
  first: string,
  last: string,
  size: number,
): { start: number; end: number } | undefined {
  if (first === "" && last === "") return undefined;
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first);
  const end = first === "" || last === "" ? size - 1 : Math.min(Number(last), size - 1);
  return start < size && start <= end ? { start, end } : undefined;
}

function end(response: ServerResponse, status: number, body: string): void {
  response.statusCode = status;
  if (!response.hasHeader("content-type")) {
    response.setHeader("content-type", "text/plain; charset=utf-8");
  }
  response.end(body);
}
