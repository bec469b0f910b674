/**
 * What the broker wants of a host's racks (lease.md §6). What is wanted of a TE comes as a level:
 * `eventsFor` compares it with what is there, and gives the events that bring the two together.
 * The rest are questions and streams. Resolving says that it is recorded (L6).
 */
import { join } from "node:path";
import { assertNever } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import type { ToHost, Wanted } from "../model/session.ts";
import type { FromHost } from "../session/session-port.ts";
import type { ConsoleFile, ConsoleStreams } from "./recorder/consoles.ts";
import { openTerms } from "./testenv-state.ts";
import type { Terms, Testenv, TestenvEvent } from "./testenv-state.ts";
import type { RackPort } from "./rack-port.ts";
import type { Recorder } from "./recorder/recorder.ts";
import type { Registry } from "./registry.ts";

/** The messages that are about racks. */
export type TestenvMessage = Extract<
  ToHost,
  | { kind: "wanted" | "taken" | "extend" | "reset" | "testenv-data" }
  | { kind: "console-open" | "console-credit" | "console-close" }
>;
type MessageOf<K extends TestenvMessage["kind"]> = Extract<TestenvMessage, { kind: K }>;

export type Orders = {
  onMessage(message: TestenvMessage): Promise<void>;
  /** What is wanted of each TE, as a session begins. */
  onWelcome(wanted: readonly Wanted[]): Promise<void>;
};

export function openOrders(options: {
  readonly registry: Registry;
  readonly rack: Pick<RackPort, "data" | "console">;
  readonly recorder: Pick<Recorder, "folder">;
  readonly consoles: ConsoleStreams;
  readonly send: (message: FromHost) => void;
  readonly log: Log;
}): Orders {
  const { registry, rack, consoles, send } = options;

  async function want(wanted: Wanted): Promise<void> {
    const actor = registry.actor(wanted.testenv);
    if (!actor) {
      // The list in our hello has told so already.
      options.log.warn({ testenv: wanted.testenv }, "the broker speaks of a TE that is not here");
      return;
    }
    // All at once: an event moves the life before the next message is compared with it.
    await Promise.all(eventsFor(actor.testenv, wanted).map((event) => actor.post(event)));
  }

  async function answerData(message: MessageOf<"testenv-data">): Promise<void> {
    const te = registry.actor(message.testenv)?.testenv;
    const terms = te && openTerms(te);
    const own = terms?.lease === message.lease && String(terms.epoch) === message.epoch;
    const data = te && own ? ((await rack.data(te)) ?? null) : null;
    const refusal = { code: "lease-over", detail: "the lease is not this one" };
    const { request } = message;
    const outcome = data === null ? refusal : { code: null, detail: null };
    send({ kind: "answer", request, data, ...outcome });
  }

  function consoleFile(message: MessageOf<"console-open">): ConsoleFile | undefined {
    const { machine, lease, epoch } = message;
    const te = registry.actor(message.testenv)?.testenv;
    const path = te && rack.console(te, machine);
    if (!te || path === undefined) return undefined;
    if (lease === null || lease === openTerms(te)?.lease) return { path, live: true };
    const grant = { lease, testenv: te.number, epoch: Number(epoch ?? 0) };
    const folder = options.recorder.folder(grant);
    return { path: join(folder, `console-${machine}.log`), live: false };
  }

  return {
    async onWelcome(all) {
      await Promise.all(all.map(want));
    },
    async onMessage(message) {
      switch (message.kind) {
        case "wanted":
          return want(message.wanted);
        case "taken":
          return registry.eachLent(({ te, record }) => {
            if (te.number === message.testenv) record?.write("taken", {});
          });
        case "extend": {
          const { testenv, ...event } = message;
          return registry.post(testenv, { ...event, epoch: Number(message.epoch) });
        }
        case "reset":
          return registry.post(message.testenv, { kind: "order-reset" });
        case "testenv-data":
          return answerData(message);
        case "console-open": {
          const { stream, fromByte, credit } = message;
          return consoles.open({ stream, fromByte, credit, file: consoleFile(message) });
        }
        case "console-credit":
          return consoles.credit(message.stream, message.credit);
        case "console-close":
          return consoles.close(message.stream);
        default:
          return assertNever(message, "message");
      }
    },
  };
}

/** What must happen to the TE so that it is as wanted; nothing where it is already. */
export function eventsFor(te: Testenv, wanted: Wanted): TestenvEvent[] {
  const events: TestenvEvent[] = [];
  const { lease, ended } = wanted;
  if (wanted.draining !== te.draining) events.push({ kind: "drain", on: wanted.draining });
  if (Number(wanted.epoch) > te.epoch) {
    events.push({ kind: "outrun", epoch: Number(wanted.epoch) });
  }
  const own = openTerms(te);
  if (lease) {
    const has = own?.lease === lease.id && String(own.epoch) === lease.epoch;
    if (!has) events.push({ kind: "prepare", terms: termsOf(lease) });
  } else if (own) {
    const known = ended?.lease === own.lease && ended.epoch === String(own.epoch);
    const reason = known ? ended.reason : "revoked";
    events.push({ kind: "end", lease: own.lease, epoch: own.epoch, reason });
  }
  return events;
}

function termsOf(lease: NonNullable<Wanted["lease"]>): Terms {
  const { id, durationMs, holderName, holderAddresses, tokenHash, needs } = lease;
  const epoch = Number(lease.epoch);
  return {
    lease: id,
    epoch,
    durationMs,
    holderName,
    holderAddresses,
    tokenHash,
    compat: needs.compat,
  };
}
