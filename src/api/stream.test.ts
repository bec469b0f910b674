import { expect, test } from "vitest";
import { eventStream, eventText } from "./stream.ts";
import type { StreamEvent } from "./stream.ts";

async function pieces(source: AsyncIterable<StreamEvent>): Promise<string[]> {
  const response = eventStream(
    source,
    () => undefined,
    (error) => ({ detail: String(error) }),
  );
  const found: string[] = [];
  const decoder = new TextDecoder();
  for await (const piece of response.body!) found.push(decoder.decode(piece));
  return found;
}

test("an event on the wire: lines of its data, whatever ends them", () => {
  expect(eventText({ id: 3, event: "line", data: "a\r\nb\nc" })).toBe(
    "id: 3\nevent: line\ndata: a\ndata: b\ndata: c\n\n",
  );
  expect(eventText({ data: { a: 1 } })).toBe('data: {"a":1}\n\n');
});

test("section 9 events that are ready go out in few pieces, in order, none is lost", async () => {
  async function* flood(): AsyncGenerator<StreamEvent> {
    for (let id = 1; id <= 1_000; id++) yield await Promise.resolve({ id, data: "x" });
  }
  const found = await pieces(flood());
  expect(found.length).toBeLessThan(20);
  const ids = [...found.join("").matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));
  expect(ids).toEqual(Array.from({ length: 1_000 }, (_, index) => index + 1));
});

test("one that is ready does not wait for the next, and a failure comes after it", async () => {
  const gate = Promise.withResolvers<void>();
  async function* slow(): AsyncGenerator<StreamEvent> {
    yield { data: "first" };
    await gate.promise;
    throw new Error("it broke");
  }
  const response = eventStream(
    slow(),
    () => undefined,
    (error) => ({ detail: String(error) }),
  );
  const reader = response.body!.getReader();
  const next = async () => new TextDecoder().decode((await reader.read()).value);
  expect(await next()).toBe(": open\n\n");
  expect(await next()).toBe("data: first\n\n");
  gate.resolve();
  expect(await next()).toBe('event: error\ndata: {"detail":"Error: it broke"}\n\n');
  expect((await reader.read()).done).toBe(true);
});

test("whoever goes away ends the source", async () => {
  const stop = new AbortController();
  let ended = false;
  async function* silent(): AsyncGenerator<StreamEvent> {
    try {
      yield { data: "first" };
      await new Promise((resolve) => stop.signal.addEventListener("abort", resolve));
    } finally {
      ended = true;
    }
  }
  const response = eventStream(
    silent(),
    () => stop.abort(),
    () => ({}),
  );
  const reader = response.body!.getReader();
  await reader.read();
  await reader.read();
  await reader.cancel();
  expect(ended).toBe(true);
});
