import { expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { limits } from "../../base/limits.ts";
import { systemRandom } from "../../base/random.ts";
import type { ToHost } from "../../model/session.ts";
import { openConsoleRelay } from "./console-relay.ts";

const which = { hostId: "h", testenv: 1, machine: "te1-n0" };

function relay() {
  const sent: ToHost[] = [];
  const consoles = openConsoleRelay({
    clock: systemClock,
    random: systemRandom,
    send: (_host, message) => sent.push(message) > 0,
  });
  /** As a host sends it, from an offset. */
  const data = (stream: string, offset: number, bytes: Buffer): void =>
    consoles.onMessage("h", {
      kind: "console-data",
      stream,
      offset,
      dataBase64: bytes.toString("base64"),
    } as never);
  const openedStream = (): string =>
    (sent.find((one) => one.kind === "console-open") as never)["stream"];
  return { consoles, sent, data, openedStream };
}

test("lease.md §6 a host that sends more than its credit ends the stream, not our memory", async () => {
  const { consoles, sent, data, openedStream } = relay();
  const stop = new AbortController();
  const reading = consoles.open(which, 0, true, stop.signal);
  const first = reading.next();
  const stream = openedStream();
  const piece = Buffer.alloc(64 * 1024, "x");
  data(stream, 0, piece);
  expect((await first).value).toHaveLength(piece.length);
  // The reader is slow; the host does not wait for credit.
  const many = limits.consoleCreditBytes / piece.length + 1;
  for (let n = 1; n <= many; n++) data(stream, n * piece.length, piece);
  await expect(reading.next()).rejects.toMatchObject({ code: "host-gone" });
  expect(sent.filter((one) => one.kind === "console-close")).toHaveLength(1);
});

test("lease.md §6 within its credit all bytes come, once and in order, and each gives credit back", async () => {
  const { consoles, sent, data, openedStream } = relay();
  const stop = new AbortController();
  const reading = consoles.open(which, 0, true, stop.signal);
  const first = reading.next();
  const stream = openedStream();
  data(stream, 0, Buffer.from("abc"));
  data(stream, 1, Buffer.from("bcd"));
  expect(String((await first).value)).toBe("abc");
  expect(String((await reading.next()).value)).toBe("d");
  await reading.return(undefined);
  const kinds = sent.map((one) => one.kind);
  expect(kinds).toEqual(["console-open", "console-credit", "console-close"]);
});
