/**
 * RSA keys made ahead (H-6.4): a grant shall not wait for one. A few lie in memory alone, so a
 * key that no lease got is never on disk; each is given out once.
 */
import { makeRsaKey } from "../ssh/keys.ts";
import type { SshKeyPair } from "../ssh/keys.ts";

export type KeyPool = {
  /** One nobody had; made now where none is ready. */
  take(): Promise<SshKeyPair>;
};

export function openKeyPool(size: number, make: () => Promise<SshKeyPair> = makeRsaKey): KeyPool {
  const ready: Promise<SshKeyPair>[] = [];
  // one after another: two cores have other work too
  let last: Promise<unknown> = Promise.resolve();
  const fill = (): void => {
    while (ready.length < size) {
      const made = last.then(make);
      last = made.catch(() => undefined);
      ready.push(made);
    }
  };
  fill();
  return {
    take() {
      const key = ready.shift() ?? make();
      // the next one is begun when this grant has had its time
      last = last.then(() => key).catch(() => undefined);
      fill();
      return key;
    },
  };
}
