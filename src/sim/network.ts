/**
 * A network between hosts and broker: frames take time and stay in their order, connections are
 * cut, and holes swallow all that is sent while both ends believe that they are connected. What
 * was under way is lost with its connection.
 */
import type { Connect, Wire, WireListener } from "../session/wire-port.ts";
import type { Life, Timeline } from "./clock.ts";
import type { SeededRandom } from "./random.ts";

export type Network = {
  /** A host's way to whatever broker runs by then. */
  connectFrom(host: string, life: Life): Connect;
  /** Ends this host's connections; `hole`: neither end is told. */
  cut(host: string, hole: boolean): void;
  /** Hosts that reach nobody. */
  readonly apart: Set<string>;
};

type End = { readonly life: Life; listener?: WireListener };

export function openNetwork(options: {
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  /** The broker that listens, if one does. */
  readonly listening: () => { readonly life: Life; take(wire: Wire): void } | undefined;
}): Network {
  const { timeline, random } = options;
  const links = new Map<string, Set<(hole: boolean) => void>>();
  const apart = new Set<string>();
  const delayMs = (): number =>
    random.chance(0.05) ? random.between(50, 900) : random.between(1, 12);

  function link(host: string, ends: readonly [End, End]): [Wire, Wire] {
    let open = true;
    let swallows = false;
    const mine = links.get(host) ?? new Set();
    links.set(host, mine);
    const cut = (hole: boolean): void => {
      if (hole) swallows = true;
      else finish("cut");
    };
    const tell = ({ life, listener }: End, reason: string): void => {
      timeline.at(random.between(0, 20), () => {
        if (life.alive) listener?.closed(reason);
      });
    };
    const finish = (reason: string): void => {
      if (!open) return;
      open = false;
      mine.delete(cut);
      for (const end of ends) tell(end, reason);
    };
    mine.add(cut);
    // the kernel of a killed program resets its connections; a machine that is gone says nothing
    for (const { life } of ends) life.onKill(() => cut(random.chance(0.2)));

    const side = (own: End, peer: End): Wire => {
      let lastMs = 0;
      let closed = false;
      const arrive = (act: () => void): void => {
        if (!open || swallows) return;
        lastMs = Math.max(lastMs, timeline.nowMs + delayMs());
        timeline.at(lastMs - timeline.nowMs, () => {
          if (open && !swallows && peer.life.alive) act();
        });
      };
      return {
        get open() {
          return open && !closed;
        },
        paused: false,
        send: (text) => arrive(() => peer.listener?.frame(text)),
        ping: () =>
          arrive(() => {
            peer.listener?.ping();
            timeline.at(delayMs(), () => {
              if (open && !swallows && own.life.alive) own.listener?.pong();
            });
          }),
        pause: () => undefined,
        resume: () => undefined,
        close(_code, reason) {
          closed = true;
          arrive(() => finish(reason));
        },
        // the other end hears of it as of any end
        cut: () => finish("cut"),
        listen: (listener) => void (own.listener = listener),
      };
    };
    return [side(ends[0], ends[1]), side(ends[1], ends[0])];
  }

  return {
    apart,
    cut: (host, hole) => links.get(host)?.forEach((end) => end(hole)),
    connectFrom: (host, life) => (_url, on) => {
      const timer = timeline.at(delayMs(), () => {
        if (!life.alive) return;
        const broker = options.listening();
        if (!broker || apart.has(host)) return on.failed(new Error("nobody answers"));
        const [near, far] = link(host, [{ life }, { life: broker.life }]);
        broker.take(far);
        on.opened(near);
      });
      return { abandon: () => timer.cancel() };
    },
  };
}
