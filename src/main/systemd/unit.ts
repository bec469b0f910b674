/**
 * `rackyard install-service`: a systemd unit that runs `up` at boot, made from
 * `examples/service/rackyard.service` with this machine's paths. Where systemd does not run it
 * writes the file and says what to type. `down --purge` and `--remove` take it away again.
 */
import { mkdir, readFile, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { run } from "../../base/command.ts";
import { fail } from "../../base/errors.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import type { CliContext } from "../../cli/context.ts";
import { realPlaces } from "../places.ts";

const root = resolve(import.meta.dirname, "../../..");
const units = "/etc/systemd/system";

export async function runInstallService(
  { globals, out }: CliContext,
  options: { readonly print: boolean; readonly remove: boolean; readonly unitFolder?: string },
): Promise<number> {
  const { state, isDefault } = await realPlaces(globals.state);
  const name = unitName(state, isDefault);
  const path = join(options.unitFolder ?? units, name);
  const text = unitText(await readFile(join(root, "examples/service/rackyard.service"), "utf8"), {
    root,
    state,
  });
  if (options.print) {
    out.result({ unit: name, path, text }, () => text.trimEnd());
    return 0;
  }
  if (process.getuid?.() !== 0) {
    fail("not-root", `${path} is root's`, { remedy: "sudo rackyard install-service" });
  }
  const systemd = (await readTextIfAny("/proc/1/comm"))?.trim() === "systemd";
  const reload = async (): Promise<void> => {
    if (systemd) await run("systemctl", ["daemon-reload"]);
  };
  if (options.remove) {
    if (systemd) await run("systemctl", ["disable", "--now", name], { accept: "any" });
    await rm(path, { force: true });
    await reload();
    out.result({ unit: name, path, removed: true }, () => `${path} is removed`);
    return 0;
  }
  await mkdir(options.unitFolder ?? units, { recursive: true });
  await writeFileAtomic(path, text);
  await reload();
  const next = `systemctl enable --now ${name}`;
  out.result({ unit: name, path, systemd, next }, () =>
    systemd
      ? `${path} is written; start it, now and at boot:\n  ${next}`
      : `${path} is written; systemd does not run here. Where it does:\n  ${next}`,
  );
  return 0;
}

/** The unit's file of this state directory, where there is one. */
export async function installedUnit(state: string, isDefault: boolean): Promise<string[]> {
  const path = join(units, unitName(state, isDefault));
  const text = await readTextIfAny(path).catch(() => undefined);
  return text?.includes(` --state ${quoted(state)} up`) ? [path] : [];
}

export function unitName(state: string, isDefault: boolean): string {
  if (isDefault) return "rackyard.service";
  return `rackyard-${state.replace(/^\//, "").replaceAll(/[^A-Za-z0-9_.]+/g, "-")}.service`;
}

/** systemd.syntax(7): a word in double quotes; `%` begins a specifier, `$` a variable. */
export function unitText(
  template: string,
  places: { readonly root: string; readonly state: string },
): string {
  return template
    .replace(/^# systemd unit; .*\n/, "")
    .replaceAll("@ROOT@/rackyard", () => quoted(join(places.root, "rackyard")))
    .replaceAll("@STATE@", () => quoted(places.state))
    .replaceAll("@ROOT@", () => encodeURI(places.root).replaceAll("%", "%%"));
}

function quoted(path: string): string {
  const escaped = path.replaceAll("%", "%%").replaceAll("$", () => "$$");
  return /^[\w./-]+$/.test(escaped) ? escaped : `"${escaped.replaceAll(/["\\]/g, "\\$&")}"`;
}
