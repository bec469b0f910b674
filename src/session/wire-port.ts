/**
 * A connection between broker and host as a channel needs it: text frames both ways, signs of life,
 * an end. A WebSocket in life (web-socket.ts); a simulated network brings its own.
 */
export type Wire = {
  /** Frames may be sent. */
  readonly open: boolean;
  readonly paused: boolean;
  send(text: string): void;
  /** The peer answers with `pong`. */
  ping(): void;
  /** No frames come from here on until `resume`. */
  pause(): void;
  resume(): void;
  /** Ends it in peace; the reason may have 120 bytes. */
  close(code: number, reason: string): void;
  /** Ends it at once, peer or not. */
  cut(): void;
  /** The one listener; called before anything has come. */
  listen(listener: WireListener): void;
};

export type WireListener = {
  /** Undefined: a frame that is no text. */
  frame(text: string | undefined): void;
  /** A ping of the peer's. */
  ping(): void;
  pong(): void;
  failed(error: unknown): void;
  /** Once, at the end. */
  closed(reason: string): void;
};

/** Dials; one of the two is called once. `abandon` ends a dialling that is under way. */
export type Connect = (
  url: string,
  on: { opened(wire: Wire): void; failed(error: unknown): void },
) => { abandon(): void };
