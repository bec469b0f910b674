/**
 * Answers that go on: Server-Sent Events (WHATWG HTML §9.2) and plain streams, made of an async
 * iterable. Whoever reads slowly slows the source down; whoever goes away ends it; a silent
 * stream of events gets a comment now and then, so that what is between keeps it open.
 */
import { limits } from "../base/limits.ts";

export type StreamEvent = {
  readonly id?: string | number;
  readonly event?: string;
  /** Sent as JSON, text as it is. */
  readonly data: object | string;
};

/**
 * Events as they come; ends with the source. `stop` aborts the signal the source was given.
 * A source that fails ends with an event `error` that carries `describe`'s problem.
 */
export function eventStream(
  source: AsyncIterable<StreamEvent>,
  stop: () => void,
  describe: (error: unknown) => object,
): Response {
  const iterator = gathered(source[Symbol.asyncIterator]());
  const encoder = new TextEncoder();
  let keepAlive: NodeJS.Timeout | undefined;
  const end = async (): Promise<void> => {
    clearInterval(keepAlive);
    stop();
    await iterator.end();
  };
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(encoder.encode(": open\n\n"));
      keepAlive = setInterval(() => {
        if ((controller.desiredSize ?? 0) > 0) controller.enqueue(encoder.encode(": still\n\n"));
      }, limits.streamKeepAliveMs);
    },
    async pull(controller) {
      try {
        const next = await iterator.next();
        if (!next.done) {
          controller.enqueue(encoder.encode(next.value.map(eventText).join("")));
          return;
        }
      } catch (error) {
        try {
          controller.enqueue(encoder.encode(eventText({ event: "error", data: describe(error) })));
        } catch {
          // the reader has gone: nobody is left to be told
        }
      }
      clearInterval(keepAlive);
      stop();
      closeQuietly(controller);
    },
    cancel: end,
  });
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  });
}

/** Events that go out as one piece. */
const EVENTS_AT_ONCE = 200;

/**
 * What the source has ready, in one go: a console that floods has 50,000 lines a second, and a
 * turn of the stream for each takes the whole server. Failures come after what was ready.
 */
function gathered<T>(source: AsyncIterator<T>) {
  let ahead: Promise<IteratorResult<T>> | undefined;
  return {
    async next(): Promise<{ done: boolean; value: T[] }> {
      const first = await (ahead ?? source.next());
      ahead = undefined;
      if (first.done) return { done: true, value: [] };
      const value = [first.value];
      const later = new Promise<undefined>((resolve) => void setImmediate(resolve, undefined));
      while (value.length < EVENTS_AT_ONCE) {
        ahead = source.next();
        ahead.catch(() => undefined); // whoever asks next sees it
        const got = await Promise.race([ahead, later]).catch(() => undefined);
        if (!got || got.done) break; // asked again by the next call
        value.push(got.value);
        ahead = undefined;
      }
      return { done: false, value };
    },
    end: async (): Promise<void> => void (await source.return?.()),
  };
}

/** One event on the wire. */
export function eventText(event: StreamEvent): string {
  const data = typeof event.data === "string" ? event.data : JSON.stringify(event.data);
  const id = event.id === undefined ? "" : `id: ${event.id}\n`;
  const name = event.event === undefined ? "" : `event: ${event.event}\n`;
  const text = /[\r\n]/.test(data) ? data.split(/\r\n|\n|\r/).join("\ndata: ") : data;
  return `${id}${name}data: ${text}\n\n`;
}

/** Bytes or text as they come. */
export function plainStream(
  source: AsyncIterable<Uint8Array | string>,
  stop: () => void,
  type: string,
): Response {
  const iterator = source[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const next = await iterator.next();
        if (!next.done) {
          const value = next.value;
          controller.enqueue(typeof value === "string" ? encoder.encode(value) : value);
          return;
        }
        closeQuietly(controller);
      } catch (error) {
        controller.error(error);
      }
      stop();
    },
    async cancel() {
      stop();
      await iterator.return?.();
    },
  });
  return new Response(body, {
    headers: { "content-type": type, "cache-control": "no-store", ...sandboxed },
  });
}

/** What others wrote, shown on our origin: never run, never guessed (surface.md §4). */
export const sandboxed = {
  "content-security-policy": "sandbox; default-src 'none'",
  "x-content-type-options": "nosniff",
} as const;

function closeQuietly(controller: ReadableStreamDefaultController): void {
  try {
    controller.close();
  } catch {
    // closed already by the reader's going
  }
}
