/**
 * Nobody takes the server from the others: calls and streams under way are counted for each token
 * and, without one, for each source; connections for each source. And a stream lives no longer
 * than the token it was opened with: each token in use is looked up again every few seconds.
 */
import type { Server } from "node:http";
import { fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";

/** Who is counted together. */
export type Share = { readonly key: string; readonly most: number };

export type Shares = {
  /** Takes a place until the signal aborts; throws `too-many` where all are taken. */
  enter(share: Share, gone: AbortSignal): void;
};

export function openShares(): Shares {
  const taken = new Map<string, number>();
  return {
    enter({ key, most }, gone) {
      const now = taken.get(key) ?? 0;
      if (now >= most) {
        fail("too-many", `${most} calls are under way from here already: that is the limit`, {
          remedy: "close some streams, or use a token of your own",
        });
      }
      if (gone.aborted) return;
      taken.set(key, now + 1);
      const leave = (): void => {
        const left = (taken.get(key) ?? 1) - 1;
        if (left > 0) taken.set(key, left);
        else taken.delete(key);
      };
      gone.addEventListener("abort", leave, { once: true });
    },
  };
}

/** A source that opens more connections than its share has the newest of them closed. */
export function limitConnections(server: Server): void {
  const open = new Map<string, number>();
  server.on("connection", (socket) => {
    const source = socket.remoteAddress ?? "";
    const now = (open.get(source) ?? 0) + 1;
    if (now > limits.connectionsPerSource) {
      socket.destroy();
      return;
    }
    open.set(source, now);
    socket.once("close", () => {
      const left = (open.get(source) ?? 1) - 1;
      if (left > 0) open.set(source, left);
      else open.delete(source);
    });
  });
}

export type TokenWatch = {
  /** Calls `end` when the token is known no more, until the signal aborts. */
  follow(token: string, gone: AbortSignal, end: () => void): void;
};

/** `isKnown`: whether a token still opens anything. A look that fails says nothing. */
export function openTokenWatch(
  isKnown: (token: string) => Promise<boolean>,
  stopping: AbortSignal,
): TokenWatch {
  const streams = new Map<string, Set<() => void>>();
  let timer: NodeJS.Timeout | undefined;

  async function look(): Promise<void> {
    for (const [token, ends] of Array.from(streams)) {
      const known = await isKnown(token).catch(() => true);
      if (!known) for (const end of Array.from(ends)) end();
    }
  }

  function arm(): void {
    if (streams.size === 0 || stopping.aborted || timer) return;
    timer = setTimeout(() => {
      void look().finally(() => {
        timer = undefined;
        arm();
      });
    }, limits.tokenLookMs);
    timer.unref();
  }

  return {
    follow(token, gone, end) {
      const ends = streams.get(token) ?? new Set();
      streams.set(token, ends.add(end));
      gone.addEventListener(
        "abort",
        () => {
          ends.delete(end);
          if (ends.size === 0 && streams.get(token) === ends) streams.delete(token);
        },
        { once: true },
      );
      arm();
    },
  };
}
