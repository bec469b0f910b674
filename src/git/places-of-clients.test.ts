import { expect, test } from "vitest";
import { openPlaces } from "./places-of-clients.ts";

const limits = { places: 3, placesPerSource: 2, waiting: 4, waitingPerSource: 3, waitMs: 60_000 };
const signal = new AbortController().signal;

test("one source never has all places; who waits is served, the poorest source first", async () => {
  const places = openPlaces(limits);
  const order: string[] = [];
  const take = async (source: string) => {
    const give = await places.take(source, signal);
    order.push(source);
    return give;
  };
  const first = await take("a");
  const second = await take("a");
  const third = take("a");
  await take("b");
  const fourth = take("c");
  expect([places.taken, places.waiting]).toEqual([3, 2]);
  first();
  await fourth; // `a` still has one, `c` none
  second();
  await third;
  expect(order).toEqual(["a", "a", "b", "c", "a"]);
  expect(places.waiting).toBe(0);
});

test("a place given back twice is given back once", async () => {
  const places = openPlaces(limits);
  const give = await places.take("a", signal);
  await places.take("b", signal);
  give();
  give();
  expect(places.taken).toBe(1);
});

test("waiting has a bound of its own a source, and one for all", async () => {
  const places = openPlaces(limits);
  const stop = new AbortController();
  for (const source of ["a", "b", "c"]) await places.take(source, signal);
  const waiting = [0, 1, 2].map(() => places.take("x", stop.signal));
  await expect(places.take("x", signal)).rejects.toMatchObject({ code: "too-many" });
  const other = places.take("y", stop.signal);
  await expect(places.take("z", signal)).rejects.toMatchObject({ code: "too-many" });
  stop.abort();
  const ended = await Promise.allSettled([...waiting, other]);
  expect(ended.every((one) => one.status === "rejected")).toBe(true);
  expect(places.waiting).toBe(0);
});

test("a wait ends by itself, and a client that left gets no place", async () => {
  const places = openPlaces({ ...limits, places: 1, waitMs: 20 });
  const give = await places.take("a", signal);
  await expect(places.take("b", signal)).rejects.toThrow(/no place became free/);
  const gone = new AbortController();
  const left = places.take("c", gone.signal);
  left.catch(() => undefined);
  gone.abort();
  give();
  expect([places.taken, places.waiting]).toEqual([0, 0]);
});
