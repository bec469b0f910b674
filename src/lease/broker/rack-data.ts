/**
 * TE data between host and holder: secret, so in memory alone, for as long as the lease is
 * active. After a start they are asked again of the host (te-host.md H-12.1).
 */
import type { Clock, Timer } from "../../base/clock.ts";
import { RackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Random } from "../../base/random.ts";
import type { ToBroker, ToHost } from "../../model/session.ts";
import type { TestenvData } from "../../model/testenv.ts";

type Answer = Extract<ToBroker, { kind: "answer" }>;
type Question = {
  readonly hostId: string;
  readonly resolve: (data: TestenvData) => void;
  readonly reject: (error: Error) => void;
  readonly timer: Timer;
};

export type WhichRack = {
  readonly hostId: string;
  readonly testenv: number;
  readonly lease: string;
  readonly epoch: string;
};

export type RackData = {
  keep(lease: string, epoch: string, data: TestenvData): void;
  /** Without an epoch: whatever there is. */
  forget(lease: string, epoch?: string): void;
  /** From memory, else from the host. Throws `host-gone`. */
  get(rack: WhichRack): Promise<TestenvData>;
  onAnswer(answer: Answer): void;
  onDisconnected(hostId: string): void;
};

export function openRackData(options: {
  readonly clock: Clock;
  readonly random: Random;
  readonly send: (hostId: string, message: ToHost) => boolean;
}): RackData {
  const kept = new Map<string, { epoch: string; data: TestenvData }>();
  const questions = new Map<string, Question>();

  function ask(rack: WhichRack): Promise<TestenvData> {
    const { hostId, testenv, lease, epoch } = rack;
    const request = options.random.uuid4();
    return new Promise((resolve, reject) => {
      const gone = (detail: string): void => {
        questions.delete(request);
        reject(new RackyardError("host-gone", detail));
      };
      const timer = options.clock.after(limits.hostAnswerMs, () =>
        gone("the host did not answer with the TE data"),
      );
      questions.set(request, { hostId, resolve, reject, timer });
      const sent = options.send(hostId, { kind: "testenv-data", request, testenv, lease, epoch });
      if (sent) return;
      timer.cancel();
      gone("the host is not connected now: the TE data are with it; try again");
    });
  }

  return {
    keep(lease, epoch, data) {
      kept.set(lease, { epoch, data });
    },
    forget(lease, epoch) {
      if (epoch === undefined || kept.get(lease)?.epoch === epoch) kept.delete(lease);
    },
    async get(rack) {
      const there = kept.get(rack.lease);
      if (there?.epoch === rack.epoch) return there.data;
      const data = await ask(rack);
      kept.set(rack.lease, { epoch: rack.epoch, data });
      return data;
    },
    onAnswer(answer) {
      const question = questions.get(answer.request);
      if (!question) return;
      questions.delete(answer.request);
      question.timer.cancel();
      if (answer.data) question.resolve(answer.data);
      else {
        const said = answer.detail ?? answer.code ?? "no reason given";
        question.reject(new RackyardError("lease-over", `the host has no TE data: ${said}`));
      }
    },
    onDisconnected(hostId) {
      for (const [request, question] of questions) {
        if (question.hostId !== hostId) continue;
        questions.delete(request);
        question.timer.cancel();
        question.reject(new RackyardError("host-gone", "the host went away"));
      }
    },
  };
}
