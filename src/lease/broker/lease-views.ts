/**
 * Leases as the API shows and moves them (api/views.ts LeaseViews, structurally). Every call
 * that moves something checks the lease's token first, posts one event, and answers with what
 * is durable then.
 */
import type { IncomingMessage } from "node:http";
import { fail, isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Random } from "../../base/random.ts";
import type { Caller } from "../../model/identity.ts";
import { mayAct } from "../../model/identity.ts";
import type { LeaseCreated, LeasePatch, LeaseRequest, LeaseView } from "../../model/lease.ts";
import type { ToHost } from "../../model/session.ts";
import type { Certificate, TestenvData } from "../../model/testenv.ts";
import type { Store } from "../../store/store.ts";
import { wholeId } from "../../store/whole-id.ts";
import type { HolderEvent } from "../ledger/ledger-event.ts";
import { openExplainer, placeOf } from "../ledger/explain.ts";
import type { Explainer } from "../ledger/explain.ts";
import { forecasts } from "../ledger/forecast.ts";
import type { Forecast } from "../ledger/forecast.ts";
import { grantOf } from "../ledger/ledger-state.ts";
import type { Lease, LeaseRecord, Ledger } from "../ledger/ledger-state.ts";
import { leaseView } from "../ledger/reading.ts";
import { earlierName } from "./lease-files.ts";
import type { GrantFile, LeaseFiles } from "./lease-files.ts";
import type { LeaseTokens } from "./lease-tokens.ts";
import type { Loop } from "./loop.ts";
import type { RackData } from "./rack-data.ts";
import { certificateLife, leaseLife } from "./records.ts";
import type { Watchers } from "./watchers.ts";

export type LeaseViewsOptions = {
  readonly store: Store;
  readonly random: Random;
  readonly loop: Loop;
  readonly tokens: LeaseTokens;
  readonly data: RackData;
  readonly files: LeaseFiles;
  readonly watchers: Watchers;
  readonly tenant: string;
  readonly send: (hostId: string, message: ToHost) => void;
  /** Where holders reach this server, for the TE data's `lease.renew`. */
  readonly serverUrl: () => string;
  /** The program is stopping: streams that end now are not their holders' doing. */
  readonly stopping: () => boolean;
  readonly onFile: (lease: string, name: string, bytes: number) => void;
};

export type LeaseQuery = {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly holder?: string | undefined;
  readonly group?: string | undefined;
  readonly te?: string | undefined;
  readonly state?: string | undefined;
  readonly since?: string | undefined;
};

export type LeaseViewsOf = ReturnType<typeof openLeaseViews>;

export function openLeaseViews(options: LeaseViewsOptions) {
  const { store, loop, tokens, data, files, watchers } = options;
  const forecastOf = openForecasts(loop);
  const explainerOf = openExplainers();

  /** What a waiting lease's stream shows of the world around it. */
  const around = (id: string): string => {
    const lease = loop.ledger.leases.get(id);
    return lease?.state.kind === "waiting" ? explainerOf(loop.ledger).signature(lease) : "";
  };

  const liveView = (lease: Lease): LeaseView => {
    if (lease.state.kind !== "waiting") return leaseView(lease);
    const { ledger } = loop;
    const forecast = forecastOf(ledger).get(lease.id);
    const place = placeOf(ledger, lease);
    return leaseView(lease, { place, why: explainerOf(ledger).why(lease), forecast });
  };

  async function stored(id: string): Promise<LeaseRecord> {
    const row = await store.row(leaseLife, id);
    return row?.body ?? fail("not-found", `there is no lease ${id}`);
  }

  const isStored = async (id: string): Promise<boolean> =>
    (await store.row(leaseLife, id)) !== undefined;

  async function view(id: string): Promise<LeaseView> {
    const live = loop.ledger.leases.get(id);
    return live ? liveView(live) : leaseView(await stored(id));
  }

  /** The token must be this lease's, and the lease must exist. */
  async function guard(id: string, token: string): Promise<void> {
    if (!loop.ledger.leases.has(id)) await stored(id);
    tokens.check(id, token);
  }

  async function ended(id: string, event: HolderEvent): Promise<LeaseView> {
    try {
      await loop.post(event);
    } catch (error) {
      if (!isRackyardError(error, "lease-over")) throw error; // over already: as good as released
    }
    await watchers.until(id, limits.fenceAnswerMs, () => !loop.ledger.leases.has(id));
    return view(id);
  }

  return {
    /** `paired`: the addresses are those of nodes that our own scheduler chose. */
    async ask(
      request: LeaseRequest,
      caller: Caller,
      key?: string,
      paired = false,
    ): Promise<LeaseCreated> {
      const id = key === undefined ? options.random.uuid4() : tokens.idOf(caller.name, key);
      const known = key !== undefined && (loop.ledger.leases.has(id) || (await isStored(id)));
      if (known) return { ...(await view(id)), token: tokens.of(id) };
      const group = groupOf(request, caller);
      const { tenant } = options;
      await loop.post({ kind: "ask", id, request, caller: caller.name, group, tenant, paired });
      return { ...(await view(id)), token: tokens.of(id) };
    },

    async patch(id: string, patch: LeasePatch, token: string, paired = false): Promise<LeaseView> {
      await guard(id, token);
      const { takeable } = patch;
      const addresses = patch.holder?.addresses ?? null;
      await loop.post({ kind: "patch", id, takeable, addresses, paired });
      return view(id);
    },

    whole: (text: string): Promise<string> => wholeId(store, leaseLife, text),

    async get(id: string, token?: string): Promise<LeaseView> {
      if (token !== undefined) {
        await guard(id, token);
        if (loop.ledger.leases.has(id)) await looked(loop, { kind: "look", id });
      }
      return view(id);
    },

    async *watch(
      id: string,
      token: string | undefined,
      signal: AbortSignal,
    ): AsyncGenerator<LeaseView> {
      if (token !== undefined) await guard(id, token);
      const counted = token !== undefined && loop.ledger.leases.has(id);
      if (counted) await looked(loop, { kind: "stream-opened", id });
      try {
        let last = "";
        while (!signal.aborted) {
          const change = watchers.next(id, signal, () => around(id));
          const now = await view(id);
          const { predictedStart: _moves, ...steady } = now;
          const text = JSON.stringify(steady);
          if (text !== last) yield now;
          last = text;
          if (now.state === "ended") return;
          await change;
        }
      } finally {
        // a holder that went away; not one that has had its answer, or whose poll's time is over
        const left = signal.aborted && !isTimeout(signal.reason);
        const lost = left && !options.stopping();
        if (counted) await looked(loop, { kind: "stream-closed", id, lost });
      }
    },

    async data(id: string, token: string): Promise<TestenvData> {
      await guard(id, token);
      await loop.post({ kind: "take", id });
      const lease = loop.ledger.leases.get(id);
      const grant = lease && grantOf(lease.state);
      const te = grant && loop.ledger.testenvs.get(grant.te);
      if (!te) return fail("lease-over", `lease ${id} is over`);
      const { hostId, number: testenv } = te;
      const made = await data.get({ hostId, testenv, lease: id, epoch: String(grant.epoch) });
      const renew = `${options.serverUrl()}/v1/leases/${id}/renew`;
      return { ...made, lease: { ...objectOf(made["lease"]), token, renew } };
    },

    async renew(id: string, token: string): Promise<LeaseView> {
      await guard(id, token);
      await loop.post({ kind: "renew", id });
      return view(id);
    },

    async extend(id: string, durationSeconds: number, token: string): Promise<LeaseView> {
      await guard(id, token);
      const durationMs = durationSeconds * 1_000;
      await loop.post({ kind: "check-extend", id, durationMs });
      const lease = loop.ledger.leases.get(id);
      const te = lease?.state.kind === "active" && loop.ledger.testenvs.get(lease.state.grant.te);
      if (lease?.state.kind !== "active" || !te) return fail("lease-over", `lease ${id} is over`);
      const { expiresAt, grant } = lease.state;
      const { number: testenv } = te;
      const epoch = String(grant.epoch);
      options.send(te.hostId, { kind: "extend", testenv, lease: id, epoch, durationMs });
      const done = await watchers.until(id, limits.hostAnswerMs, () => {
        const now = loop.ledger.leases.get(id)?.state;
        return now?.kind !== "active" || now.expiresAt !== expiresAt;
      });
      if (!done) fail("host-gone", "the host did not answer: the deadline stays as it was");
      return view(id);
    },

    async release(id: string, token: string): Promise<LeaseView> {
      await guard(id, token);
      return ended(id, { kind: "release", id });
    },

    async revoke(id: string, _by: Caller): Promise<LeaseView> {
      if (!loop.ledger.leases.has(id)) await stored(id);
      return ended(id, { kind: "revoke", id });
    },

    async list(query: LeaseQuery): Promise<{ items: LeaseView[]; next: string | null }> {
      const rows = await store.rows(leaseLife, {
        ...(query.state === undefined ? {} : { states: [query.state] }),
        where: {
          ...(query.holder === undefined ? {} : { a: query.holder }),
          ...(query.te === undefined ? {} : { b: query.te }),
          ...(query.group === undefined ? {} : { c: query.group }),
        },
        sinceMs: timeOf(query.since),
        after: placeOfCursor(query.cursor),
        limit: query.limit + 1,
        newestFirst: true,
      });
      const shown = rows.slice(0, query.limit);
      const items = shown.map(({ id, body }) => {
        const live = loop.ledger.leases.get(id);
        return live ? liveView(live) : leaseView(body);
      });
      const last = rows.length > shown.length ? shown.at(-1) : undefined;
      return { items, next: last ? `${last.createdMs}.${last.id}` : null };
    },

    async certificate(id: string): Promise<Certificate> {
      const row = await store.row(certificateLife, id);
      if (row) return row.body.certificate;
      const lease = await view(id);
      const why = lease.state === "ended" ? "no reset was proved for it" : `it is ${lease.state}`;
      return fail("not-found", `lease ${id} has no certificate: ${why}`);
    },

    async files(id: string): Promise<{ name: string; bytes: number }[]> {
      await view(id);
      return files.list(id);
    },

    async filePath(id: string, name: string): Promise<string> {
      await view(id);
      return files.pathOf(id, name);
    },

    async storeFile(id: string, of: GrantFile, body: IncomingMessage): Promise<void> {
      const { state, endedAt, testenvs } = await view(id);
      const closedMs = endedAt === undefined ? Infinity : Date.parse(endedAt);
      if (state === "ended" && loop.nowMs() > closedMs + limits.leaseFilesAfterEndMs) {
        fail("lease-over", `lease ${id} ended at ${endedAt}: its files are closed`);
      }
      const last = testenvs.some(({ id: te, epoch }) => te === of.te && epoch === of.epoch);
      const name = last ? of.name : earlierName(of);
      options.onFile(id, name, await files.store(id, name, body));
    },
  };
}

function objectOf(value: unknown): object {
  return typeof value === "object" && value !== null ? value : {};
}

/** A sign of life of a lease that may end in this very moment. */
async function looked(loop: Loop, event: HolderEvent): Promise<void> {
  try {
    await loop.post(event);
  } catch (error) {
    if (!isRackyardError(error, "lease-over") && !isRackyardError(error, "unavailable"))
      throw error;
  }
}

function groupOf(request: LeaseRequest, caller: Caller): string {
  const group = request.group ?? caller.groups[0] ?? "default";
  const any = mayAct(caller.role, "operator") || caller.groups.length === 0;
  if (!any && !caller.groups.includes(group)) {
    fail("not-allowed", `${caller.name} may not lease for the group ${group}`);
  }
  return group;
}

/** Forecasts are made once for each ledger, however many leases are shown. */
function openForecasts(loop: Loop): (ledger: Ledger) => ReadonlyMap<string, Forecast> {
  let of: Ledger | undefined;
  let atMs = 0;
  let made: ReadonlyMap<string, Forecast> = new Map();
  return (ledger) => {
    const nowMs = loop.nowMs();
    if (of !== ledger || nowMs - atMs > 1_000) {
      made = forecasts(ledger, nowMs);
      of = ledger;
      atMs = nowMs;
    }
    return made;
  };
}

/** Reasons are worked out once for each ledger, however many wait. */
function openExplainers(): (ledger: Ledger) => Explainer {
  let of: Ledger | undefined;
  let made: Explainer | undefined;
  return (ledger) => {
    if (of !== ledger || !made) made = openExplainer(ledger);
    of = ledger;
    return made;
  };
}

function timeOf(since: string | undefined): number | undefined {
  if (since === undefined) return undefined;
  const ms = Date.parse(since);
  return Number.isNaN(ms) ? fail("bad-request", `since: ${since} is no time of RFC 3339`) : ms;
}

function placeOfCursor(cursor: string | undefined): { createdMs: number; id: string } | undefined {
  if (cursor === undefined) return undefined;
  const [createdMs, id] = cursor.split(".", 2);
  if (!createdMs || !id || !/^[0-9]{1,16}$/.test(createdMs)) {
    return fail("bad-request", "cursor: not one that was answered here");
  }
  return { createdMs: Number(createdMs), id };
}

/** `AbortSignal.timeout`'s reason. */
function isTimeout(reason: unknown): boolean {
  return reason instanceof DOMException && reason.name === "TimeoutError";
}
