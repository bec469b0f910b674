/**
 * A network in memory for sessions: wires that take time by the clock they are given, and can be
 * cut. Frames arrive in their order; what was under way at a cut is lost.
 */
import type { Clock } from "../../src/base/clock.ts";
import type { Connect, Wire, WireListener } from "../../src/session/wire-port.ts";

export type MemoryNetwork = {
  readonly connect: Connect;
  /** Ends every connection at once, both ends; frames under way are lost. */
  cut(): void;
  /** While down nobody can dial. */
  down: boolean;
};

type End = { listener?: WireListener };

export function memoryNetwork(options: {
  readonly clock: Pick<Clock, "after">;
  readonly delayMs: number;
  /** The other end of each connection. */
  readonly accept: (wire: Wire) => void;
}): MemoryNetwork {
  const { clock, delayMs } = options;
  const links = new Set<() => void>();

  function link(): [Wire, Wire] {
    let open = true;
    const ends: [End, End] = [{}, {}];
    const finish = (reason: string): void => {
      if (!open) return;
      open = false;
      links.delete(cut);
      for (const { listener } of ends) listener?.closed(reason);
    };
    const cut = (): void => finish("cut");
    links.add(cut);
    const side = (own: End, peer: End): Wire => {
      let paused = false;
      const arrive = (act: (listener: WireListener) => void): void => {
        clock.after(delayMs, () => {
          if (open && peer.listener) act(peer.listener);
        });
      };
      return {
        get open() {
          return open;
        },
        get paused() {
          return paused;
        },
        send: (text) => arrive((listener) => listener.frame(text)),
        ping: () =>
          arrive((listener) => {
            listener.ping();
            clock.after(delayMs, () => {
              if (open) own.listener?.pong();
            });
          }),
        pause: () => void (paused = true),
        resume: () => void (paused = false),
        close: (_code, reason) => void clock.after(delayMs, () => finish(reason)),
        cut: () => finish("cut"),
        listen: (listener) => void (own.listener = listener),
      };
    };
    return [side(ends[0], ends[1]), side(ends[1], ends[0])];
  }

  const network: MemoryNetwork = {
    down: false,
    cut: () => links.forEach((end) => end()),
    connect(_url, on) {
      const timer = clock.after(delayMs, () => {
        if (network.down) return on.failed(new Error("nobody answers"));
        const [near, far] = link();
        options.accept(far);
        on.opened(near);
      });
      return { abandon: () => timer.cancel() };
    },
  };
  return network;
}
