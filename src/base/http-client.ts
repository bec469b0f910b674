/**
 * HTTP as a client, over TCP or a Unix socket, with limits and cancellation: for the holder,
 * the CLI and the host's agent. Problems (RFC 9457) come back as RackyardError with their code.
 */
import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Readable } from "node:stream";
import { errorCodes, RackyardError } from "./errors.ts";
import type { ErrorCode, FieldFault } from "./errors.ts";
import { limits } from "./limits.ts";

export type Endpoint = {
  /** `http://host:port`, `https://…`, or `unix:/path/of.sock`. */
  readonly url: string;
  readonly token?: string | undefined;
  /** PEM of the certificate authority to trust, instead of the machine's own. */
  readonly ca?: string | undefined;
};

export type HttpOptions = {
  readonly method?: string;
  /** Sent as JSON, unless it is a stream or bytes. */
  readonly body?: unknown;
  readonly stream?: Readable;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  readonly token?: string | undefined;
};

/** Sends a request and gives the answer's stream; any status. Throws `unavailable`. */
export function open(
  endpoint: Endpoint,
  path: string,
  options: HttpOptions = {},
): Promise<IncomingMessage> {
  const unix = endpoint.url.startsWith("unix:");
  const target = new URL(path, unix ? "http://localhost" : endpoint.url);
  const json = options.body === undefined ? undefined : JSON.stringify(options.body);
  const token = options.token ?? endpoint.token;
  const send = target.protocol === "https:" ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const request = send(target, {
      method: options.method ?? "GET",
      ...(unix ? { socketPath: endpoint.url.slice("unix:".length) } : {}),
      ...(options.signal ? { signal: options.signal } : {}),
      ...(endpoint.ca === undefined ? {} : { ca: endpoint.ca }),
      headers: {
        accept: "application/json",
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...(json === undefined
          ? {}
          : {
              "content-type": "application/json",
              "content-length": String(Buffer.byteLength(json)),
            }),
        ...options.headers,
      },
    });
    request.setTimeout(options.timeoutMs ?? limits.requestMs, () =>
      request.destroy(new Error("no answer in time")),
    );
    request.once("response", resolve);
    let broken: Error | undefined;
    request.on("error", (error) => {
      if (options.signal?.aborted) reject(options.signal.reason as Error);
      else if (broken) reject(broken);
      else
        reject(
          new RackyardError("unavailable", `${endpoint.url} does not answer`, { cause: error }),
        );
    });
    const { stream } = options;
    if (!stream) {
      request.end(json);
      return;
    }
    // A file that is gone or cannot be read fails this call alone; and whatever ends the call
    // (an early answer, a dead peer) closes the file.
    stream.on("error", (error) => {
      broken = error;
      request.destroy(error);
    });
    request.once("close", () => stream.destroy());
    stream.pipe(request);
  });
}

/** A JSON call: the parsed answer, or a RackyardError made of the problem it carries. */
export async function call<T = unknown>(
  endpoint: Endpoint,
  path: string,
  options: HttpOptions = {},
): Promise<T> {
  const response = await open(endpoint, path, options);
  const text = await readText(response, limits.commandOutputBytes);
  if ((response.statusCode ?? 500) < 300) {
    return (text === "" ? undefined : JSON.parse(text)) as T;
  }
  throw problemError(response.statusCode ?? 500, text);
}

export async function readText(response: Readable, limitBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limitBytes) throw new RackyardError("too-large", `answer over ${limitBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

export type ServerSentEvent = {
  readonly id?: string;
  readonly event: string;
  readonly data: string;
};

/** Reads a stream of Server-Sent Events (WHATWG HTML §9.2). */
export async function* serverSentEvents(response: Readable): AsyncGenerator<ServerSentEvent> {
  let buffered = "";
  const decoder = new TextDecoder();
  for await (const chunk of response as AsyncIterable<Buffer>) {
    buffered += decoder.decode(chunk, { stream: true });
    for (let end = buffered.indexOf("\n\n"); end >= 0; end = buffered.indexOf("\n\n")) {
      const event = parseEvent(buffered.slice(0, end));
      buffered = buffered.slice(end + 2);
      if (event) yield event;
    }
  }
}

function parseEvent(block: string): ServerSentEvent | undefined {
  let id: string | undefined;
  let event = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon === 0) continue; // a comment: keep-alive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id") id = value;
    else if (field === "event") event = value;
    else if (field === "data") data.push(value);
  }
  if (data.length === 0) return undefined;
  return { ...(id === undefined ? {} : { id }), event, data: data.join("\n") };
}

/** RFC 9457 problem → RackyardError; an unknown code becomes the status' nearest one. */
function problemError(status: number, text: string): RackyardError {
  let problem: {
    code?: string;
    detail?: string;
    title?: string;
    errors?: FieldFault[];
    remedy?: string;
  };
  try {
    problem = JSON.parse(text) as typeof problem;
  } catch {
    problem = {};
  }
  const code: ErrorCode =
    problem.code !== undefined && problem.code in errorCodes
      ? (problem.code as ErrorCode)
      : status === 404
        ? "not-found"
        : status >= 500
          ? "unavailable"
          : "bad-request";
  return new RackyardError(code, problem.detail ?? problem.title ?? `HTTP ${status}`, {
    ...(problem.errors ? { faults: problem.errors } : {}),
    ...(problem.remedy ? { remedy: problem.remedy } : {}),
  });
}
