/**
 * A machine's serial console, relayed from its host: a stream of session messages with credit,
 * so that a slow reader slows its own stream and nobody else's (lease.md §6). Offsets tell what
 * is missing; bytes come once and in order.
 */
import type { Clock, Timer } from "../../base/clock.ts";
import { RackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Random } from "../../base/random.ts";
import type { ToBroker, ToHost } from "../../model/session.ts";

type ConsoleMessage = Extract<ToBroker, { kind: "console-data" | "console-end" }>;

export type ConsoleRelay = {
  /**
   * Bytes from an offset. Without `follow` it ends when the host has had no more for a moment.
   * Throws `host-gone` where the host is not connected.
   */
  open(
    which: { readonly hostId: string; readonly testenv: number; readonly machine: string },
    fromByte: number,
    follow: boolean,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array>;
  onMessage(hostId: string, message: ConsoleMessage): void;
  onDisconnected(hostId: string): void;
};

type Stream = {
  readonly hostId: string;
  readonly pieces: Buffer[];
  /** Bytes in `pieces`: never more than the credit that the host was given. */
  waiting: number;
  next: number;
  ended: string | undefined;
  failed: Error | undefined;
  wake: () => void;
};

export function openConsoleRelay(options: {
  readonly clock: Clock;
  readonly random: Random;
  readonly send: (hostId: string, message: ToHost) => boolean;
}): ConsoleRelay {
  const { clock, random, send } = options;
  const streams = new Map<string, Stream>();

  /** Resolves at the next message, the signal, or (unfollowed) after a quiet moment: "quiet". */
  function news(stream: Stream, follow: boolean, signal: AbortSignal): Promise<"news" | "quiet"> {
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      const done = (what: "news" | "quiet"): void => {
        timer?.cancel();
        signal.removeEventListener("abort", wake);
        stream.wake = () => undefined;
        resolve(what);
      };
      const wake = (): void => done("news");
      stream.wake = wake;
      signal.addEventListener("abort", wake, { once: true });
      if (!follow) timer = clock.after(limits.consoleReadMs, () => done("quiet"));
      if (signal.aborted) wake();
    });
  }

  return {
    async *open({ hostId, testenv, machine }, fromByte, follow, signal) {
      const id = random.uuid4();
      const stream: Stream = {
        hostId,
        pieces: [],
        waiting: 0,
        next: fromByte,
        ended: undefined,
        failed: undefined,
        wake: () => undefined,
      };
      streams.set(id, stream);
      const sent = send(hostId, {
        kind: "console-open",
        stream: id,
        testenv,
        machine,
        fromByte,
        lease: null,
        epoch: null,
        credit: limits.consoleCreditBytes,
      });
      try {
        if (!sent)
          throw new RackyardError("host-gone", "the host of this console is not connected");
        while (!signal.aborted) {
          const piece = stream.pieces.shift();
          if (piece) {
            stream.waiting -= piece.length;
            yield piece;
            send(hostId, { kind: "console-credit", stream: id, credit: piece.length });
            continue;
          }
          if (stream.failed) throw stream.failed;
          if (stream.ended !== undefined) return;
          if ((await news(stream, follow, signal)) === "quiet") return;
        }
      } finally {
        streams.delete(id);
        if (sent && stream.ended === undefined && !stream.failed) {
          send(hostId, { kind: "console-close", stream: id });
        }
      }
    },
    onMessage(hostId, message) {
      const stream = streams.get(message.stream);
      if (!stream || stream.hostId !== hostId) return;
      if (message.kind === "console-end") stream.ended = message.detail;
      else {
        const bytes = Buffer.from(message.dataBase64, "base64");
        const fresh = bytes.subarray(Math.max(0, stream.next - message.offset));
        stream.next = Math.max(stream.next, message.offset + bytes.length);
        if (fresh.length > 0) stream.pieces.push(fresh);
        stream.waiting += fresh.length;
        if (stream.waiting > limits.consoleCreditBytes) {
          // Who reads slowly must not fill our memory with what a host sends all the same.
          stream.pieces.length = 0;
          stream.failed ??= new RackyardError(
            "host-gone",
            "the host sends more of this console than was asked for",
          );
          send(hostId, { kind: "console-close", stream: message.stream });
        }
      }
      stream.wake();
    },
    onDisconnected(hostId) {
      for (const stream of streams.values()) {
        if (stream.hostId !== hostId) continue;
        stream.failed = new RackyardError("host-gone", "the host of this console went away");
        stream.wake();
      }
    },
  };
}
