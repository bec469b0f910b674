/**
 * Both ends of the session between broker and host as their users see them (lease.md §6).
 * Frames, numbers, acknowledgement, heartbeats and redial are inside.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { Wire } from "./wire-port.ts";
import type { Hello, ToBroker, ToHost } from "../model/session.ts";

export type FromHost = Exclude<ToBroker, { kind: "hello" }>;

/** The broker's end: all hosts. */
export type HostSessions = AsyncDisposable & {
  /** The HTTP upgrade of `/v1/hosts/session`. */
  accept(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** A wire that a host has dialled in another way. */
  take(wire: Wire): void;
  /**
   * Sends, or keeps until acknowledged while this process and the host's session number last.
   * False: no session of this host; the reconciliation at its next `hello` makes up for it.
   */
  send(hostId: string, message: ToHost): boolean;
  connected(hostId: string): boolean;
  /** Ends the host's session, so that it begins anew with all it has; content if there is none. */
  drop(hostId: string, reason: string): void;
};

export type HostSessionsHandler = {
  /** A host is there (again): answer with what the broker believes. */
  onHello(hello: Hello): Promise<Extract<ToHost, { kind: "welcome" }>>;
  /** After `welcome` was sent: messages may go out now. */
  onConnected(hostId: string): void;
  /** Resolving acknowledges a durable message: it is recorded (L6). */
  onMessage(hostId: string, message: FromHost): Promise<void>;
  onDisconnected(hostId: string): void;
};

/** The host's end: dials, says hello, redials; keeps what is not acknowledged. */
export type BrokerSession = AsyncDisposable & {
  /** Queued while the broker is away (bounded); sent in order; fleeting ones are dropped then. */
  send(message: FromHost): void;
  readonly connected: boolean;
};

export type BrokerSessionHandler = {
  /** Made anew for each session: the present state. */
  hello(sessionNumber: number): Promise<Hello>;
  /** Next session number, durable: counted up before it is used. */
  nextSessionNumber(): Promise<number>;
  onWelcome(welcome: Extract<ToHost, { kind: "welcome" }>): Promise<void>;
  /** Resolving acknowledges. */
  onMessage(message: Exclude<ToHost, { kind: "welcome" }>): Promise<void>;
};
