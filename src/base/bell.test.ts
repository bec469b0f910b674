import { expect, it } from "vitest";
import { openBell } from "./bell.ts";
import { systemClock } from "./clock.ts";

const { signal } = new AbortController();

it("makes one ring of all between two waits, and loses none", async () => {
  const bell = openBell(systemClock);
  bell.ring();
  bell.ring();
  await expect(bell.wait(signal)).resolves.toBe(true);
  await expect(bell.wait(signal, 1)).resolves.toBe(false);
  const waiting = bell.wait(signal);
  bell.ring();
  await expect(waiting).resolves.toBe(true);
  await expect(bell.wait(signal, 1)).resolves.toBe(false);
});

it("ends a wait when its signal aborts, before or meanwhile", async () => {
  const bell = openBell(systemClock);
  const stop = new AbortController();
  const waiting = bell.wait(stop.signal);
  stop.abort();
  await expect(waiting).resolves.toBe(false);
  await expect(bell.wait(stop.signal)).resolves.toBe(false);
});
