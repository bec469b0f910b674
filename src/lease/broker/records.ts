/**
 * How the broker's lives stand in the store: columns to search by, and the whole ledger read
 * back after a start. Bodies are the ledger's records; no token and no TE data is in them.
 */
import type { Certificate } from "../../model/testenv.ts";
import type { LifeKind, LifeRow, Store } from "../../store/store.ts";
import type { RecordEffect } from "../ledger/ledger-event.ts";
import type {
  HostRecord,
  LeaseRecord,
  Ledger,
  Policy,
  TestenvRecord,
} from "../ledger/ledger-state.ts";
import { restoreLedger } from "../ledger/restoring.ts";

/** a: holder's name, b: TE, c: group, n: order of asking. */
export const leaseLife: LifeKind<LeaseRecord> = {
  life: "lease",
  columns: (body) => ({
    a: body.request.holder.name,
    b: body.state.kind === "waiting" ? null : (body.state.grant?.te ?? null),
    c: body.group,
    n: body.order,
  }),
};

/** a: host, b: host's id, n: epoch. */
export const testenvLife: LifeKind<TestenvRecord> = {
  life: "testenv",
  columns: (body) => ({ a: body.host, b: body.hostId, n: body.epoch }),
};

/** a: name. */
export const hostLife: LifeKind<HostRecord> = {
  life: "host",
  columns: (body) => ({ a: body.facts.name }),
};

export type CertificateRecord = { readonly te: string; readonly certificate: Certificate };

/** By the lease that it follows. b: TE, n: epoch. */
export const certificateLife: LifeKind<CertificateRecord> = {
  life: "certificate",
  columns: (body) => ({ b: body.te, n: body.certificate.epoch }),
};

const LIVE = ["waiting", "preparing", "active", "ending"];

export async function readLedger(store: Store, policy: Policy, nowMs: number): Promise<Ledger> {
  const [leases, testenvs, hosts] = await Promise.all([
    allRows(store, leaseLife, LIVE),
    allRows(store, testenvLife),
    allRows(store, hostLife),
  ]);
  return restoreLedger(policy, { leases, testenvs, hosts }, nowMs);
}

async function allRows<Body extends object>(
  store: Store,
  kind: LifeKind<Body>,
  states?: readonly string[],
): Promise<Body[]> {
  const bodies: Body[] = [];
  let after: LifeRow<Body> | undefined;
  for (;;) {
    const page: LifeRow<Body>[] = await store.rows(kind, {
      ...(states ? { states } : {}),
      ...(after ? { after } : {}),
      limit: 1_000,
    });
    bodies.push(...page.map((row) => row.body));
    after = page.at(-1);
    if (page.length < 1_000) return bodies;
  }
}

export type Certified = { readonly lease: string; readonly body: CertificateRecord };

/** Everything that one batch of decisions must have durable, in one transaction (L6). */
export async function writeRecords(
  store: Store,
  records: readonly RecordEffect[],
  certified: readonly Certified[],
  atMs: number,
): Promise<void> {
  await store.transaction(async (tx) => {
    for (const record of records) {
      const { id, from, event, to } = record;
      const step = { id, from, event, to, atMs };
      if (record.life === "lease") {
        await store.append(tx, leaseLife, { ...step, body: record.body });
      } else if (record.life === "testenv") {
        await store.append(tx, testenvLife, { ...step, body: record.body });
      } else await store.append(tx, hostLife, { ...step, body: record.body });
    }
    for (const { lease, body } of certified) {
      const step = { id: lease, from: null, event: "proved", to: "valid", body, atMs };
      await store.append(tx, certificateLife, step);
    }
  });
}
