import { expect, test } from "vitest";
import { etagOf, matches } from "./engine.ts";
import { onceWith, seal, unseal } from "./idempotency.ts";
import type { KeptAnswer } from "./idempotency.ts";
import { eventText } from "./stream.ts";

function memory() {
  const kept = new Map<string, KeptAnswer>();
  return {
    kept,
    once: onceWith({
      find: (key) => Promise.resolve(kept.get(key)),
      keep: (key, answer) => Promise.resolve(void kept.set(key, answer)),
    }),
  };
}

test("surface.md §5 what failed is not kept: the same key may try again", async () => {
  const { once, kept } = memory();
  const broken = once.run("s", "k", "b", () => Promise.reject(new Error("world")));
  await expect(broken).rejects.toThrow("world");
  expect(kept.size).toBe(0);
  const answer = { status: 201, json: '{"a":1}' };
  expect(await once.run("s", "k", "b", () => Promise.resolve(answer))).toEqual(answer);
  const never = () => Promise.reject(new Error("a second time"));
  expect(await once.run("s", "k", "b", never)).toEqual(answer);
});

test("surface.md §5 another caller's or route's same key is another key", async () => {
  const { once } = memory();
  const make = (json: string) => () => Promise.resolve({ status: 201, json });
  expect((await once.run("ann /a", "k", "b", make("1"))).json).toBe("1");
  expect((await once.run("bob /a", "k", "b", make("2"))).json).toBe("2");
});

test("surface.md §6 a kept answer opens with its key alone", () => {
  const sealed = seal("ryl_secret", "key");
  expect(sealed).not.toContain("ryl_");
  expect(unseal(sealed, "key")).toBe("ryl_secret");
  expect(() => unseal(sealed, "other")).toThrow(/authenticate/);
});

test("RFC 9110 §13.1 If-None-Match: any of a list, weak ones too, or *", () => {
  const etag = etagOf("{}");
  expect(matches(etag, etag)).toBe(true);
  expect(matches(`"x", W/${etag}`, etag)).toBe(true);
  expect(matches("*", etag)).toBe(true);
  expect(matches('"x"', etag)).toBe(false);
  expect(matches(undefined, etag)).toBe(false);
});

test("WHATWG HTML §9.2 an event's data keeps its lines, and cannot end the event", () => {
  expect(eventText({ id: 3, event: "line", data: "a\n\nid: 9" })).toBe(
    "id: 3\nevent: line\ndata: a\ndata: \ndata: id: 9\n\n",
  );
});
