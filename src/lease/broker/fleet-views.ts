/**
 * The fleet as the API shows it (api/views.ts FleetViews, structurally): TEs, hosts, the latest
 * certificates, drain, serial consoles.
 */
import { fail } from "../../base/errors.ts";
import type { Caller } from "../../model/identity.ts";
import type { ToHost } from "../../model/session.ts";
import type { Certificate, HostView, TestenvView } from "../../model/testenv.ts";
import type { Store } from "../../store/store.ts";
import type { TestenvRecord } from "../ledger/ledger-state.ts";
import { hostView, testenvView } from "../ledger/reading.ts";
import type { ConsoleRelay } from "./console-relay.ts";
import type { LeaseFiles } from "./lease-files.ts";
import type { Loop } from "./loop.ts";
import { leaseLife } from "./records.ts";

/** States from which a host takes an order to reset (docs/specs/testenv.md, `order-reset`). */
const resettable: ReadonlySet<string> = new Set(["ready", "faulty", "quarantined"]);

export function openFleetViews(options: {
  readonly store: Store;
  readonly loop: Loop;
  readonly consoles: ConsoleRelay;
  readonly files: LeaseFiles;
  /** False: that host has no session now. */
  readonly tellHost: (hostId: string, message: ToHost) => boolean;
}) {
  const { loop, consoles, files } = options;

  function find(id: string): TestenvRecord {
    const te = loop.ledger.testenvs.get(id);
    if (te && te.life.kind !== "removed") return te;
    return fail("not-found", `there is no test environment ${id}`);
  }

  /** What the host brought home of the TE's last lease. */
  async function* archived(
    te: TestenvRecord,
    machine: string,
    fromByte: number,
  ): AsyncGenerator<Uint8Array> {
    const [row] = await options.store.rows(leaseLife, {
      where: { b: te.id },
      limit: 1,
      newestFirst: true,
    });
    if (!row) fail("host-gone", `the host of ${te.id} is not connected`);
    yield* await files.read(row.id, `console-${machine}.log`, fromByte);
  }

  return {
    testenvs(): Promise<TestenvView[]> {
      const views = [...loop.ledger.testenvs.values()]
        .filter((te) => te.life.kind !== "removed")
        .sort((a, b) => a.host.localeCompare(b.host) || a.number - b.number)
        .map((te) => testenvView(loop.ledger, te));
      return Promise.resolve(views);
    },

    async testenv(id: string): Promise<TestenvView> {
      return Promise.resolve(testenvView(loop.ledger, find(id)));
    },

    async certificate(id: string): Promise<Certificate> {
      const { certificate } = find(id);
      if (certificate) return Promise.resolve(certificate);
      return fail("not-found", `${id} has no reset certificate yet`);
    },

    async drain(id: string, on: boolean, _by: Caller): Promise<TestenvView> {
      await loop.post({ kind: "drain", te: id, on });
      return testenvView(loop.ledger, find(id));
    },

    /** Orders a reset; what comes of it the host reports. Nothing of a lease is ever touched. */
    async reset(id: string, _by: Caller): Promise<TestenvView> {
      const te = find(id);
      if (!resettable.has(te.life.kind)) {
        fail("conflict", `${id} is ${te.life.kind}: only a rack that nobody has is reset`, {
          remedy: "see rackyard te show; a lease is ended with rackyard lease revoke",
        });
      }
      const order = { kind: "reset", testenv: te.number } as const;
      const told = loop.ledger.hosts.get(te.hostId)?.open && options.tellHost(te.hostId, order);
      if (!told) fail("host-gone", `the host of ${id} is not connected`);
      return Promise.resolve(testenvView(loop.ledger, te));
    },

    hosts(): Promise<HostView[]> {
      const views = [...loop.ledger.hosts.values()].map(hostView);
      return Promise.resolve(views.sort((a, b) => a.name.localeCompare(b.name)));
    },

    async *console(
      id: string,
      machine: string,
      fromByte: number,
      follow: boolean,
      signal: AbortSignal,
    ): AsyncGenerator<Uint8Array> {
      const te = find(id);
      const known = te.report.machineList.some(({ name }) => name === machine);
      if (!known) {
        const names = te.report.machineList.map(({ name }) => name).join(", ");
        fail("not-found", `${id} has no machine ${machine}`, { remedy: `its machines: ${names}` });
      }
      const host = loop.ledger.hosts.get(te.hostId);
      const which = { hostId: te.hostId, testenv: te.number, machine };
      yield* host?.open
        ? consoles.open(which, fromByte, follow, signal)
        : archived(te, machine, fromByte);
    },
  };
}
