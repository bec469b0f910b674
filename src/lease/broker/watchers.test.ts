import { expect, test } from "vitest";
import { handClock } from "../../../test/samples/clock.ts";
import { limits } from "../../base/limits.ts";
import { openWatchers } from "./watchers.ts";

const { signal } = new AbortController();

test("issue 6 §6 of 2,000 who wait only those are woken for whom the answer is another", async () => {
  const clock = handClock();
  const watchers = openWatchers(clock);
  const places = Array.from({ length: 2_000 }, (_, n) => n);
  const woken: number[] = [];
  let looks = 0;
  for (const n of places) {
    const look = (): string => {
      looks++;
      return String(places[n]);
    };
    void watchers.next(`l${n}`, signal, look).then(() => woken.push(n));
  }
  places[7] = -1;
  for (let commit = 0; commit < 50; commit++) watchers.moved(new Set(["elsewhere"]));
  watchers.moved(new Set(["l3"]));
  await clock.advance(0);
  expect(woken, "the one that moved itself, at once").toEqual([3]);
  await clock.advance(limits.leaseStreamMs);
  expect(woken).toEqual([3, 7]);
  expect(looks, "one look for all commits of that time").toBe(2_000 + 1_999);
});

test("a watcher that shows nothing of the world is woken by any commit, and once", async () => {
  const clock = handClock();
  const watchers = openWatchers(clock);
  let done = false;
  const waiting = watchers.until("mine", 60_000, () => done);
  watchers.moved(new Set(["other"]));
  done = true;
  await clock.advance(limits.leaseStreamMs);
  await expect(waiting).resolves.toBe(true);
  expect(clock.waiting).toBe(0);
});
