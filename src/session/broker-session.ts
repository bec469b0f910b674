/**
 * The host's end of its session with the broker (lease.md §6): dials, says hello, is welcomed,
 * sends what was not acknowledged before and what came since, in order; redials for as long as
 * it lives. Durable messages wait, bounded, while the broker is away; fleeting ones are dropped,
 * and so is a report of a TE that a later one, or the hello itself, makes out of date. A message
 * may arrive twice, and then all that followed it does too.
 */
import { assert } from "../base/assert.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { describeError, fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { backoffMs } from "../base/retry.ts";
import { fleetingKinds, toBrokerSchema, toHostSchema } from "../model/session.ts";
import { closeCodes, openChannel, refuse } from "./channel.ts";
import type { Channel } from "./channel.ts";
import { faultsOf } from "./host-sessions.ts";
import { connectWebSocket } from "./web-socket.ts";
import type { Connect, Wire } from "./wire-port.ts";
import type { BrokerSession, BrokerSessionHandler, FromHost } from "./session-port.ts";

const PATH = "/v1/hosts/session";

export type DialOptions = {
  /** `unix:/path/of/api.sock`, `ws://host:port`, `wss://…`; http and https mean the same. */
  readonly url: string;
  readonly handler: BrokerSessionHandler;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: Random;
  /** Default: a WebSocket. */
  readonly connect?: Connect;
  /** Sent every `limits.heartbeatMs` while connected; default: the user sends its own. */
  /** The broker, of another version perhaps, will never take a message of this kind. */
  readonly onRefused?: (kind: string, why: string) => void;
  readonly heartbeat?: () => Extract<FromHost, { kind: "heartbeat" }>;
};

export function dialBroker(options: DialOptions): BrokerSession {
  const { handler, log, clock, random, connect = connectWebSocket } = options;
  /** Durable messages not yet acknowledged, oldest first. */
  const outbox: FromHost[] = [];
  let acknowledged = 0;
  /** Of `outbox`: how many the present channel has taken. */
  let taken = 0;
  let channel: Channel | undefined;
  let welcoming: Promise<void> | undefined;
  let welcomed = false;
  let failures = 0;
  let closed = false;
  let redial: Timer | undefined;
  let heart: Timer | undefined;
  let dialling: ReturnType<Connect> | undefined;

  function dial(): void {
    redial = undefined;
    if (closed) return;
    dialling = connect(targetOf(options.url), {
      opened: begin,
      failed: (error) => again(describeError(error)),
    });
  }

  function again(reason: string): void {
    if (closed || redial) return;
    failures++;
    const pauseMs = backoffMs(
      failures,
      limits.sessionRedialFirstMs,
      limits.sessionRedialLastMs,
      () => random.fraction(),
    );
    log.info({ reason, failures }, "no session with the broker: dialling again");
    redial = clock.after(pauseMs * (0.75 + random.fraction() / 2), dial);
  }

  function begin(dialled: Wire): void {
    const mine = openChannel(
      dialled,
      {
        receive: (raw) => receive(mine, raw),
        acknowledged(seq) {
          outbox.splice(0, seq - acknowledged);
          taken -= seq - acknowledged;
          acknowledged = seq;
          failures = 0;
        },
        refused(seq, why) {
          const message = outbox[seq - acknowledged - 1];
          log.error({ message: message?.kind, why }, "the broker does not take a message");
          options.onRefused?.(message?.kind ?? "", why);
        },
        closed(reason) {
          impatience.cancel();
          heart?.cancel();
          channel = undefined;
          welcomed = false;
          welcoming = undefined;
          taken = 0;
          again(reason);
        },
      },
      { clock, log },
    );
    channel = mine;
    const impatience = clock.after(limits.sessionConnectMs, () => {
      if (!welcomed) mine.close(closeCodes.refused, "no welcome");
    });
    sayHello(mine).catch((error: unknown) => {
      log.error({ error: describeError(error) }, "no hello could be made");
      mine.close(closeCodes.failed, "no hello");
    });
  }

  async function sayHello(mine: Channel): Promise<void> {
    const number = await handler.nextSessionNumber();
    // It tells of every TE as it is from now on; what waits to tell of them is older.
    drop((message) => message.kind === "testenv");
    const hello = await handler.hello(number);
    check(hello);
    mine.send(hello);
  }

  async function receive(mine: Channel, raw: unknown): Promise<void> {
    const parsed = toHostSchema.safeParse(raw);
    if (!parsed.success) return refuse(`not understood: ${faultsOf(parsed.error)}`);
    const message = parsed.data;
    if (message.kind !== "welcome") {
      if (!welcoming) return fail("unavailable", `${message.kind} before welcome`);
      // In the order in which they came; once it is over each is taken in the turn it comes in.
      if (!welcomed) await welcoming;
      return handler.onMessage(message);
    }
    if (welcoming) return fail("unavailable", "a second welcome in one session");
    welcoming = handler.onWelcome(message);
    await welcoming;
    if (!mine.open) return undefined;
    welcomed = true;
    // Else only an acknowledgement shows that the broker takes what waits.
    if (outbox.length === 0) failures = 0;
    acknowledged = 0;
    for (const waiting of outbox) mine.send(waiting);
    taken = outbox.length;
    beat();
    return undefined;
  }

  /** Of what the channel has not taken yet. */
  function drop(outdated: (message: FromHost) => boolean): void {
    for (let at = outbox.length - 1; at >= taken; at--) {
      if (outdated(outbox[at]!)) outbox.splice(at, 1);
    }
  }

  function beat(): void {
    if (!options.heartbeat || !channel || !welcomed) return;
    channel.send(options.heartbeat());
    heart = clock.after(limits.heartbeatMs, beat);
  }

  dial();
  return {
    send(message) {
      check(message);
      if (closed) return;
      if (fleetingKinds.has(message.kind)) {
        if (channel && welcomed) channel.send(message);
        return;
      }
      if (message.kind === "testenv") {
        const { number } = message.report;
        drop((other) => other.kind === "testenv" && other.report.number === number);
      }
      if (outbox.length >= limits.sessionBacklog) overflow();
      outbox.push(message);
      if (!channel || !welcomed) return;
      channel.send(message);
      taken = outbox.length;
    },
    get connected() {
      return welcomed && (channel?.open ?? false);
    },
    [Symbol.asyncDispose]() {
      closed = true;
      redial?.cancel();
      heart?.cancel();
      channel?.close(closeCodes.normal, "stopping");
      dialling?.abandon();
      return Promise.resolve();
    },
  };

  /** The hello of the next session tells the present state; what led to it is given up. */
  function overflow(): void {
    log.error({ messages: outbox.length }, "too many messages wait for the broker: all dropped");
    outbox.length = 0;
    taken = 0;
    acknowledged = 0;
    channel?.close(closeCodes.failed, "backlog");
  }
}

function check(message: { readonly kind: string }): void {
  const parsed = toBrokerSchema.safeParse(message);
  if (parsed.success) return;
  assert(false, `${message.kind} to the broker is malformed: ${faultsOf(parsed.error)}`);
}

function targetOf(url: string): string {
  if (url.startsWith("unix:")) return `ws+unix:${url.slice("unix:".length)}:${PATH}`;
  const target = new URL(url.replace(/^http/, "ws"));
  if (target.pathname === "/") target.pathname = PATH;
  return target.href;
}
