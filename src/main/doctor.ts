/**
 * `rackyard doctor`: is this machine fit, and what cures what is missing (H-1.13). Each row looks
 * at one thing afresh, says why it matters and the exact command that helps; nothing is changed.
 * The looks are in doctor/; what is left of dead cells is leaks.ts's.
 */
import { describeError } from "../base/errors.ts";
import { emulationRow, namespacesRow, controlGroupRow, tapRow } from "./doctor/kernel.ts";
import { diskRow, memoryRow, nodeRow, rootRow, systemRow } from "./doctor/machine.ts";
import { networkRow, portRow } from "./doctor/network.ts";
import { emulatorsRow, packagesRow } from "./doctor/packages.ts";
import type { DoctorContext, Row } from "./doctor/row.ts";

type Look = { readonly name: string; readonly look: (context: DoctorContext) => Promise<Row> };

/** Rows for the server and the clients, then those of a TE host (`te-host check`). */
const serverLooks: readonly Look[] = [
  { name: "node", look: nodeRow },
  { name: "system", look: systemRow },
  { name: "server packages", look: (context) => packagesRow("server", context) },
  { name: "port", look: portRow },
];
const hostLooks: readonly Look[] = [
  { name: "root", look: rootRow },
  { name: "host packages", look: (context) => packagesRow("host", context) },
  { name: "emulators", look: emulatorsRow },
  { name: "kvm", look: emulationRow },
  { name: "tap", look: tapRow },
  { name: "namespaces", look: namespacesRow },
  { name: "control groups", look: controlGroupRow },
  { name: "test network", look: networkRow },
  { name: "memory", look: memoryRow },
  { name: "disk", look: diskRow },
];

/** All rows; a look that cannot be taken is a row that says so. */
export function doctorRows(context: DoctorContext): Promise<Row[]> {
  return take([...serverLooks, ...hostLooks], context);
}

/** `te-host check`: what a hypervisor needs. */
export function hostRows(context: DoctorContext): Promise<Row[]> {
  return take(hostLooks, context);
}

/** Fit to serve: nothing is missing; warnings are allowed. */
export function isFit(rows: readonly Row[]): boolean {
  return rows.every(({ state }) => state !== "missing");
}

/** One after the other: a machine that is short of something is not helped by haste. */
async function take(looks: readonly Look[], context: DoctorContext): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { name, look } of looks) {
    try {
      rows.push(await look(context));
    } catch (error) {
      context.signal?.throwIfAborted();
      const detail = `could not be looked at: ${describeError(error)}`;
      const why = "what is not known may fail later";
      rows.push({ name, state: "warn", detail, why, cure: null });
    }
  }
  return rows;
}
