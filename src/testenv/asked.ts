/**
 * What the broker asks of a host's racks (lease.md §6): each message becomes an event of one
 * TE's life, an answer, or a console's stream. Resolving says that it is recorded (L6).
 */
import { join } from "node:path";
import { assertNever } from "../base/assert.ts";
import type { ToHost } from "../model/session.ts";
import type { FromHost } from "../session/session-port.ts";
import type { ConsoleFile, ConsoleStreams } from "./recorder/consoles.ts";
import { openTerms } from "./testenv-state.ts";
import type { Terms } from "./testenv-state.ts";
import type { Rack } from "./rack.ts";
import type { Recorder } from "./recorder/recorder.ts";
import type { Registry } from "./registry.ts";

/** The messages that are about racks. */
export type TestenvMessage = Extract<
  ToHost,
  | { kind: "prepare" | "taken" | "end" | "extend" | "drain" | "reset" | "testenv-data" }
  | { kind: "console-open" | "console-credit" | "console-close" }
>;
type MessageOf<K extends TestenvMessage["kind"]> = Extract<TestenvMessage, { kind: K }>;

export function openAsked(options: {
  readonly registry: Registry;
  readonly rack: Pick<Rack, "data">;
  readonly recorder: Pick<Recorder, "folder">;
  readonly consoles: ConsoleStreams;
  readonly send: (message: FromHost) => void;
}): (message: TestenvMessage) => Promise<void> {
  const { registry, rack, consoles, send } = options;

  async function prepare(message: MessageOf<"prepare">): Promise<void> {
    const { testenv, lease, epoch } = message;
    if (registry.actor(testenv)) {
      return registry.post(testenv, { kind: "prepare", terms: termsOf(message) });
    }
    const detail = `this host has no TE ${testenv}`;
    return send({ kind: "faulty", testenv, lease, epoch, detail });
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
    const found = registry.find(message.testenv);
    const machine = found?.parts.all.find(({ name }) => name === message.machine);
    if (!found || !machine) return undefined;
    if (message.lease === null || message.lease === openTerms(found.te)?.lease) {
      return { path: machine.spec.consoleLog, live: true };
    }
    const folder = options.recorder.folder(message.lease);
    return { path: join(folder, `console-${machine.name}.log`), live: false };
  }

  return async (message) => {
    switch (message.kind) {
      case "prepare":
        return prepare(message);
      case "taken":
        return registry.eachLent(({ te, record }) => {
          if (te.number === message.testenv) record?.write("taken", {});
        });
      case "end":
      case "extend": {
        const { testenv, ...event } = message;
        return registry.post(testenv, { ...event, epoch: Number(message.epoch) });
      }
      case "drain": {
        const all = registry.actors().map((actor) => actor.testenv.number);
        for (const number of message.testenv === null ? all : [message.testenv]) {
          await registry.post(number, { kind: "drain", on: message.on });
        }
        return undefined;
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
  };
}

function termsOf(message: MessageOf<"prepare">): Terms {
  const { lease, durationMs, holderName, holderAddresses, tokenHash, needs } = message;
  const epoch = Number(message.epoch);
  return { lease, epoch, durationMs, holderName, holderAddresses, tokenHash, compat: needs.compat };
}
