/**
 * The TEs of this host while the agent runs: which actor lives which number, and what each is
 * made of. Looked at by everybody in this folder, changed by testenvs.ts alone.
 */
import type { Actor } from "./actor.ts";
import type { Watched } from "./recorder/lease-watch.ts";
import { openTerms } from "./testenv-state.ts";
import type { Testenv, TestenvEvent } from "./testenv-state.ts";
import type { TestenvParts } from "./parts.ts";
import type { LeaseRecord } from "./recorder/recorder.ts";

export type Registry = {
  add(actor: Actor): void;
  readonly actors: () => readonly Actor[];
  actor(number: number): Actor | undefined;
  /** As recorded now, removed ones included. */
  readonly testenvs: () => Testenv[];
  readonly partsOf: (te: Pick<Testenv, "number" | "kind">) => TestenvParts;
  find(number: number): { te: Testenv; parts: TestenvParts } | undefined;
  /** Does nothing where there is no such TE. */
  post(number: number, event: TestenvEvent): Promise<void>;
  watched(te: Testenv): Watched;
  /** Each TE that is being prepared or in a holder's hands. */
  eachLent(act: (found: Watched) => void): void;
};

export function openRegistry(
  partsOf: Registry["partsOf"],
  record: (te: Testenv) => LeaseRecord | undefined,
): Registry {
  const actors = new Map<number, Actor>();
  const testenvs = (): Testenv[] => [...actors.values()].map((actor) => actor.testenv);
  const watched = (te: Testenv): Watched => ({ te, parts: partsOf(te), record: record(te) });
  return {
    add: (actor) => void actors.set(actor.testenv.number, actor),
    actors: () => [...actors.values()],
    actor: (number) => actors.get(number),
    testenvs,
    partsOf,
    find(number) {
      const te = actors.get(number)?.testenv;
      return te && { te, parts: partsOf(te) };
    },
    async post(number, event) {
      await actors.get(number)?.post(event);
    },
    watched,
    eachLent(act) {
      for (const te of testenvs()) if (openTerms(te)) act(watched(te));
    },
  };
}
