/**
 * One wire between broker and host as a channel of messages (lease.md §6). Durable ones are
 * numbered from 1 and acknowledged, in order, when the receiver's handler has resolved; fleeting
 * ones are not. Frames, JSON text, one each:
 *
 *     { "seq": 7, "message": { "kind": … } }    durable
 *     { "message": { "kind": … } }              fleeting (model/session.ts fleetingKinds)
 *     { "ack": 7 }                              all up to 7 are recorded
 *     { "ack": 8, "refused": "why" }            so it is, and 8 itself will never be taken
 *
 * Messages are handed over in their order and one does not wait for another's record: what comes
 * together can be recorded together. Acknowledged is what all before it is, too. One that cannot be
 * understood, or is against the rules, is refused by itself. A frame that is none of these, or a
 * handler that fails otherwise, ends the channel with a reason; what was not acknowledged is its
 * user's to send again on the next one.
 */
import type { Clock, Timer } from "../base/clock.ts";
import { describeError, fail, isRackyardError } from "../base/errors.ts";
import type { ErrorCode } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { fleetingKinds, frameSchema } from "../model/session.ts";
import type { Wire } from "./wire-port.ts";

export type ChannelUser = {
  /**
   * Resolving acknowledges a durable message. A RackyardError of `refusals` refuses it for good;
   * any other failure ends the channel.
   */
  receive(message: unknown): Promise<void>;
  /** All sent messages up to this number are recorded by the peer. */
  acknowledged(seq: number): void;
  /** The peer will never take this message; the channel goes on. */
  refused(seq: number, why: string): void;
  /** Once, at the end; nothing is received after it. */
  closed(reason: string): void;
};

export type Channel = {
  /** Gives the message's number; 0 for a fleeting one. Nothing is sent once closed. */
  send(message: { readonly kind: string }): number;
  close(code: CloseCode, reason: string): void;
  readonly open: boolean;
  /** Whether the peer answers a ping within the time. */
  probe(withinMs: number): Promise<boolean>;
};

/** RFC 6455 §7.4.1 */
export const closeCodes = { normal: 1000, protocol: 1002, refused: 1008, failed: 1011 } as const;
export type CloseCode = (typeof closeCodes)[keyof typeof closeCodes];

type Received = {
  readonly seq: number;
  readonly message: unknown;
  state: "waits" | "handled" | "done" | "refused";
  why: string;
};

/** Codes of failures that another try of the same message would meet again. */
const refusals: readonly ErrorCode[] = ["bad-request", "not-supported-yet"];

/** A message that cannot be taken, now or later. */
export function refuse(why: string): never {
  return fail("bad-request", why);
}

/** Characters of a refusal: the peer logs it. */
const REFUSAL_LENGTH = 500;

/** Takes an open wire over. It pings the peer, and ends when the peer has long been silent. */
export function openChannel(
  wire: Wire,
  user: ChannelUser,
  { clock, log }: { clock: Clock; log: Log },
): Channel {
  let sent = 0;
  let acknowledged = 0;
  let received = 0;
  let open = true;
  let ending = "";
  let heardMs = clock.monoMs();
  let watch: Timer;
  let patience: Timer | undefined;
  const probes = new Set<(alive: boolean) => void>();
  /** What came and is not acknowledged yet, in its order. */
  const inbox: Received[] = [];
  let answering = false;

  const write = (frame: object): void => {
    if (open && wire.open) wire.send(JSON.stringify(frame));
  };

  const finish = (reason: string): void => {
    if (!open) return;
    open = false;
    watch.cancel();
    inbox.length = 0;
    user.closed(reason);
  };

  const close = (code: CloseCode, reason: string): void => {
    if (!open) return;
    ending = reason;
    // The protocol allows 123 bytes of reason.
    wire.close(code, Buffer.from(reason).subarray(0, 120).toString("utf8").replace(/�+$/, ""));
    // A peer that does not answer the closing is not waited for.
    patience = clock.after(limits.sessionProbeMs, () => wire.cut());
    finish(reason);
  };

  const heard = (): void => {
    heardMs = clock.monoMs();
  };

  const keepWatch = (): void => {
    watch = clock.after(limits.heartbeatMs, () => {
      if (clock.monoMs() - heardMs >= limits.hostSuspectMs) {
        ending = "the peer was silent";
        wire.cut();
        return finish(ending);
      }
      if (wire.open) wire.ping();
      keepWatch();
    });
  };

  function handle(one: Received): void {
    one.state = "handled";
    user.receive(one.message).then(
      () => settle(one, "done", ""),
      (error: unknown) => {
        if (!open) return;
        const why = describeError(error);
        if (isRackyardError(error) && refusals.includes(error.code)) {
          log.warn({ error: why }, "a message was refused");
          return settle(one, "refused", why);
        }
        log.warn({ error: why }, "a message was not taken: the session ends");
        close(closeCodes.failed, why);
      },
    );
  }

  function settle(one: Received, state: "done" | "refused", why: string): void {
    one.state = state;
    one.why = why;
    if (answering) return;
    answering = true;
    // What is recorded in one transaction resolves in one turn, and is acknowledged in one frame.
    queueMicrotask(answer);
  }

  function answer(): void {
    answering = false;
    let recorded = 0;
    while (inbox[0]?.state === "done" || inbox[0]?.state === "refused") {
      const { seq, state, why } = inbox.shift()!;
      if (seq === 0) continue;
      recorded = state === "done" ? seq : 0;
      if (state === "refused") write({ ack: seq, refused: why.slice(0, REFUSAL_LENGTH) });
    }
    if (recorded > 0) write({ ack: recorded });
    if (wire.paused && inbox.length < limits.sessionInbox / 2) wire.resume();
  }

  const read = (text: string | undefined): void => {
    heard();
    if (!open) return;
    const frame = text === undefined ? undefined : parseFrame(text);
    if (!frame) return close(closeCodes.protocol, "a frame that is none of ours");
    if ("ack" in frame) {
      if (frame.ack > sent || frame.ack < acknowledged) {
        return close(closeCodes.protocol, `acknowledges ${frame.ack} of ${sent}`);
      }
      acknowledged = frame.ack;
      if ("refused" in frame) user.refused(frame.ack, String(frame.refused));
      return user.acknowledged(frame.ack);
    }
    const seq = "seq" in frame && typeof frame.seq === "number" ? frame.seq : 0;
    if (seq > 0 && seq !== ++received) {
      return close(closeCodes.protocol, `message ${seq} where ${received} belongs`);
    }
    const one: Received = { seq, message: frame.message, state: "waits", why: "" };
    inbox.push(one);
    if (inbox.length >= limits.sessionInbox) wire.pause();
    handle(one);
  };

  wire.listen({
    frame: read,
    ping: heard,
    pong() {
      heard();
      for (const answer of probes) answer(true);
    },
    failed(error) {
      ending ||= describeError(error);
    },
    closed(reason) {
      patience?.cancel();
      for (const answer of probes) answer(false);
      finish(ending || reason);
    },
  });
  keepWatch();

  return {
    send(message) {
      if (fleetingKinds.has(message.kind)) {
        write({ message });
        return 0;
      }
      write({ seq: ++sent, message });
      if (sent - acknowledged > limits.sessionBacklog) {
        close(closeCodes.failed, "too many messages wait to be acknowledged");
      }
      return sent;
    },
    close,
    get open() {
      return open;
    },
    probe(withinMs) {
      if (!wire.open) return Promise.resolve(false);
      const { promise, resolve } = Promise.withResolvers<boolean>();
      const answer = (alive: boolean): void => {
        timer.cancel();
        probes.delete(answer);
        resolve(alive);
      };
      const timer = clock.after(withinMs, () => answer(false));
      probes.add(answer);
      wire.ping();
      return promise;
    },
  };
}

function parseFrame(text: string) {
  try {
    return frameSchema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
