/**
 * `te-host check` (H-1.13): the doctor's rows about what a hypervisor needs. Exit 0: fit to serve.
 */
import type { CliContext } from "../../cli/context.ts";
import { hostRows, isFit } from "../doctor.ts";

export async function runTeHostCheck(context: CliContext): Promise<number> {
  const { globals, out, signal } = context;
  const rows = await hostRows({ state: globals.state, listen: [], signal });
  const ok = isFit(rows);
  out.result({ event: "check", ok, rows }, () =>
    out.table(
      ["state", "what", "found", "why", "cure"],
      rows.map(({ state, name, detail, why, cure }) => [
        state,
        name,
        detail,
        state === "ok" ? "" : why,
        cure ?? "",
      ]),
    ),
  );
  return ok ? 0 : 1;
}
