/**
 * `rackyard check-config [FILE]`: is the configuration right, and the layout it names? Every
 * fault on a line of its own, `file:line:column: what`, as editors read it. Needs no server; the
 * check itself is handed in by `main`.
 */
import { resolve } from "node:path";
import type { FieldFault } from "../base/errors.ts";
import { defaultState } from "./context.ts";
import type { Verb } from "./program.ts";

export type ConfigCheck = (where: {
  readonly state: string;
  readonly isDefault: boolean;
  readonly config: string | undefined;
  readonly set: readonly string[];
}) => Promise<{
  readonly file: string | null;
  readonly layout: string | null;
  readonly pipelines: number;
  readonly jobs: number;
  readonly projects: number;
  readonly faults: readonly FieldFault[];
}>;

const wrong = 78;

export function checkConfigVerb(load: () => Promise<ConfigCheck>): Verb {
  return {
    summary: "Is the configuration right, and the layout it names",
    example: "rackyard check-config\nrackyard check-config /etc/rackyard/rackyard.yaml",
    args: "[file]",
    async run({ globals, out }, { args }) {
      const check = await load();
      const config = args[0] ?? globals.config;
      const found = await check({
        state: globals.state,
        isDefault: globals.state === defaultState,
        config: config === undefined ? undefined : resolve(config),
        set: globals.set,
      });
      const { faults, file, layout } = found;
      const ok = faults.length === 0;
      out.result({ event: "check-config", ok, ...found }, () =>
        ok
          ? `${file ?? "built-in defaults"}: right\n${layout ?? "no layout yet"}: ` +
            [
              counted(found.pipelines, "pipeline"),
              counted(found.jobs, "job"),
              counted(found.projects, "project"),
            ].join(", ")
          : faults.map(faultText).join("\n"),
      );
      return ok ? 0 : wrong;
    },
  };
}

const counted = (count: number, what: string): string =>
  `${count} ${what}${count === 1 ? "" : "s"}`;

function faultText({ pointer, detail, code, remedy }: FieldFault): string {
  return `${pointer}: ${detail} (${code})${remedy === undefined ? "" : `\n  ${remedy}`}`;
}
