/**
 * `te-host destroy` (H-1.15): removes what is ours of this host, and nothing else: the cell with
 * all that lives in it, disks, consoles, nodes. Refused while the agent runs or a TE is leased.
 * Kept are keys, epochs and images: a host that is started again is the same host.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "../../base/errors.ts";
import { lockFile } from "../../base/files.ts";
import type { CliContext } from "../../cli/context.ts";
import { endCell } from "../../hypervisor/cell-end.ts";
import { openSqliteStore } from "../../store/store.ts";
import { openTerms } from "../../testenv/testenv-state.ts";
import { testenvRecords } from "../../testenv/record.ts";
import { placesOf } from "../places.ts";
import { recordExists } from "./plan-command.ts";

export async function runTeHostDestroy(context: CliContext): Promise<number> {
  const { globals, out } = context;
  if (process.getuid?.() !== 0) {
    fail("not-root", "only root may remove machines", { remedy: "run it as root" });
  }
  const places = placesOf(globals.state);
  await using _lock = await lockFile(places.lock("te-host"), `the TE host of ${places.state}`);
  const leased = await leasedTestenvs(places.state);
  if (leased.length > 0) {
    fail("conflict", `leased: ${leased.map((number) => `te${number}`).join(", ")}`, {
      remedy: "release the leases first: rackyard lease list",
    });
  }
  const ended = await endCell(places.state);
  for (const folder of ["disks", "nodes", "consoles"]) {
    await rm(join(places.state, "te", folder), { recursive: true, force: true });
  }
  const { removed, left } = ended;
  out.result({ event: "destroyed", removed, left }, () =>
    left.length === 0
      ? `removed: ${removed.domains} machines, ${removed.bridges} bridges`
      : left.map(({ kind, name, why }) => `left: ${kind} ${name}: ${why}`).join("\n"),
  );
  return left.length === 0 ? 0 : 1;
}

async function leasedTestenvs(state: string): Promise<number[]> {
  if (!(await recordExists(state))) return [];
  await using store = await openSqliteStore(join(state, "te/te-host.db"));
  const all = await testenvRecords(store, () => Date.now()).all();
  return all.filter((te) => openTerms(te) !== null).map(({ number }) => number);
}
