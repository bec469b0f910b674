/**
 * `rackyard doctor` as people and programs read it (surface.md §8); the looks are doctor.ts's,
 * what is left behind is leaks.ts's.
 */
import type { CliContext } from "../cli/context.ts";
import { doctorRows, isFit } from "./doctor.ts";
import type { Row } from "./doctor/row.ts";
import { leaks } from "./leaks.ts";

export async function runDoctor(context: CliContext): Promise<number> {
  const { globals, out } = context;
  const rows = await doctorRows({
    state: globals.state,
    listen: ["127.0.0.1:7225"],
    signal: context.signal,
  });
  const ok = isFit(rows);
  out.result({ event: "doctor", ok, rows }, () => doctorText(context, rows));
  return ok ? 0 : 1;
}

export async function runLeaks({ globals, out }: CliContext): Promise<number> {
  const left = await leaks(globals.state);
  out.result({ left }, () => {
    if (left.length === 0) return "nothing is left";
    const rows = left.map(({ kind, name, why }) => [kind, name, why]);
    const kinds = new Set(left.map(({ kind }) => kind));
    const cures = Object.entries(cureOf).filter(([kind]) => kinds.has(kind));
    return [
      out.table(["what", "name", "why"], rows),
      "rackyard down ends what its state directory (--state) still knows; by hand, as root:",
      ...cures.map(([, command]) => `  ${command}`),
    ].join("\n");
  });
  return left.length === 0 ? 0 : 1;
}

const cureOf: Readonly<Record<string, string>> = {
  process: "kill -9 PID",
  mount: "umount -l NAME",
  netns: "ip netns delete NAME",
  link: "ip link delete NAME",
};

export function doctorText({ out }: CliContext, rows: readonly Row[]): string {
  const marks = { ok: "green", warn: "yellow", missing: "red" } as const;
  const width = Math.max(...rows.map(({ name }) => name.length));
  return rows
    .flatMap((row) => [
      [out.style(marks[row.state], row.state.padEnd(7)), row.name.padEnd(width), row.detail].join(
        "  ",
      ),
      ...(row.state === "ok" ? [] : [`         ${" ".repeat(width)}  ${row.why}`]),
      ...(row.cure === null ? [] : [`         ${" ".repeat(width)}  cure: ${row.cure}`]),
    ])
    .join("\n");
}
