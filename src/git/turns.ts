/**
 * Turns: work on one name (a repository, a project) is done one after another, work on others
 * beside it. In memory: one process writes these repositories.
 */

export type Turns = {
  /** Runs `work` when no other work on this name runs; gives its result or failure. */
  inTurn<T>(name: string, work: () => Promise<T>): Promise<T>;
};

export function openTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return {
    inTurn(name, work) {
      const next = (last.get(name) ?? Promise.resolve()).then(work);
      const settled = next.catch(() => undefined);
      last.set(name, settled);
      void settled.then(() => last.get(name) === settled && last.delete(name));
      return next;
    },
  };
}
