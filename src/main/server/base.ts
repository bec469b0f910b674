/**
 * What every part of the server is opened with.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Troubles } from "../../base/troubles.ts";
import type { Scope } from "../../base/scope.ts";
import type { Globals } from "../../cli/context.ts";
import type { Store } from "../../store/store.ts";
import type { Places } from "../places.ts";
import type { Settings } from "./settings.ts";

export type ServerSurroundings = {
  readonly places: Places;
  readonly globals: Globals;
  readonly store: Store;
  readonly log: Log;
  readonly scope: Scope;
  readonly clock: Clock;
  /** The server's secret, of which leases' tokens are made. */
  readonly leaseKey: Uint8Array;
};

export type Base = ServerSurroundings & {
  /** As read at the start; a reload reaches the parts it can. */
  readonly settings: Settings;
  /** How people reach the server, once it listens. */
  readonly url: () => string;
  /** What fails just now and is tried again; health and status show it. */
  readonly troubles: Troubles;
  /** Closed in reverse order of opening. */
  readonly stack: AsyncDisposableStack;
};
