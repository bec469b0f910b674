/**
 * `te-host check` (H-1.13): the doctor's rows about what a hypervisor needs. Exit 0: fit to serve.
 */
import type { CliContext } from "../../cli/context.ts";
import { doctorText } from "../doctor-command.ts";
import { hostRows, isFit } from "../doctor.ts";

export async function runTeHostCheck(context: CliContext): Promise<number> {
  const { globals, out, signal } = context;
  const rows = await hostRows({ state: globals.state, listen: [], signal });
  const ok = isFit(rows);
  out.result({ event: "check", ok, rows }, () => doctorText(context, rows));
  return ok ? 0 : 1;
}
