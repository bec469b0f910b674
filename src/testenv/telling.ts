/**
 * What a TE's life tells the broker, as messages of the session (lease.md §6). The TE data pass
 * by here and are kept nowhere but in the rack's own file.
 */
import { assertNever } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import type { TestenvReport } from "../model/testenv.ts";
import type { FromHost } from "../session/session-port.ts";
import type { RackWork } from "./actor.ts";
import type { Deadline, Effect, Terms, Testenv } from "./testenv-state.ts";
import type { Power } from "./power.ts";
import type { Rack } from "./rack.ts";
import type { Registry } from "./registry.ts";
import { reportOf } from "./report.ts";

export type Telling = {
  tell: RackWork["tell"];
  report(te: Testenv): Promise<TestenvReport>;
  extended(te: Testenv, terms: Terms, deadline: Deadline): void;
};

export function openTelling(options: {
  readonly registry: Pick<Registry, "partsOf">;
  readonly rack: Pick<Rack, "data">;
  readonly power: Power;
  /** A lease is handed over from now on. */
  readonly onHandOver: (te: Testenv) => void;
  readonly send: (message: FromHost) => void;
  readonly log: Log;
}): Telling {
  const { registry, rack, power, send, log } = options;

  async function report(te: Testenv): Promise<TestenvReport> {
    const parts = registry.partsOf(te);
    const on = await power.running(parts).catch(() => undefined);
    return reportOf(te, parts, on);
  }

  async function handOver(te: Testenv, effect: Extract<Effect, { kind: "hand-over" }>) {
    const { terms, deadline } = effect;
    const data = await rack.data(te);
    if (!data) return; // fenced meanwhile
    options.onHandOver(te);
    const { lease, epoch } = terms;
    send({ kind: "prepared", ...about(te, epoch), lease, deadlineAt: deadline.at, data });
  }

  return {
    report,
    extended(te, terms, deadline) {
      const { lease, epoch } = terms;
      send({ kind: "extended", ...about(te, epoch), lease, deadlineAt: deadline.at });
    },
    async tell(te, effect) {
      switch (effect.kind) {
        case "hand-over":
          return handOver(te, effect);
        case "report":
          return te.phase.state === "removed"
            ? send({ kind: "testenv-removed", testenv: te.number })
            : send({ kind: "testenv", report: await report(te) });
        case "tell-too-low": {
          const { lease, offered, highest } = effect;
          const epochs = { offered: String(offered), highest: String(highest) };
          return send({ kind: "epoch-too-low", testenv: te.number, lease, ...epochs });
        }
        case "tell-resetting": {
          const { terms, epoch, endedAt } = effect;
          const lease = terms?.lease ?? null;
          const reason = toldReason(effect.reason);
          return send({ kind: "resetting", ...about(te, epoch), lease, reason, endedAt });
        }
        case "tell-ready": {
          const { certificate } = effect;
          return send({ kind: "ready", ...about(te, certificate.epoch), certificate });
        }
        case "tell-faulty": {
          const { lease, epoch, detail } = effect;
          log.warn({ testenv: te.number, detail }, "the TE is faulty");
          return send({ kind: "faulty", ...about(te, epoch), lease, detail });
        }
        default:
          return assertNever(effect, "effect");
      }
    },
  };
}

function about(te: Testenv, epoch: number): { testenv: number; epoch: string } {
  return { testenv: te.number, epoch: String(epoch) };
}

/** The broker knows reasons of leases; a reset of the host's own is none's fault. */
function toldReason(reason: Extract<Effect, { kind: "tell-resetting" }>["reason"]) {
  const own = reason === "provisioned" || reason === "repaired" || reason === "ordered";
  return own ? ("released" as const) : reason;
}
