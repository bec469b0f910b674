/**
 * `rack/` of a build: what its lease's host brought home, taken into the build's folder by links
 * (or copies), so that the build is whole as long as it is kept. A host's files come late (the
 * certificate after the reset) and may be replaced by longer ones: the lease's folder is compared
 * with the build's whenever somebody looks, and in each sweep, until it is gone.
 */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { isUuid } from "../../base/ids.ts";
import type { ArchiveStore } from "./archive-store.ts";

const FOLDER = ".racks";

/** Builds whose lease's files may still come: folder of the build → lease. */
export type OpenRacks = {
  add(logsPath: string, lease: string): Promise<void>;
  /** Takes over what is new for this build; says whether something was. */
  look(logsPath: string): Promise<boolean>;
  /** All of them; those whose lease's folder is gone are over. Gives the builds that changed. */
  lookAtAll(signal: AbortSignal): Promise<string[]>;
};

export function openRacks(store: ArchiveStore, leaseFiles: string): OpenRacks {
  let known: Promise<Map<string, string>> | undefined;
  const markPath = (lease: string): string => `${FOLDER}/${lease}`;
  const seen = new Map<string, string>();

  /** From the marks, once: a file a lease, its text the build's folder. */
  function open(): Promise<Map<string, string>> {
    known ??= readMarks().catch((error: unknown) => {
      known = undefined;
      throw error;
    });
    return known;
  }

  async function readMarks(): Promise<Map<string, string>> {
    const marks = new Map<string, string>();
    for (const { name: lease } of await store.entries(FOLDER)) {
      const file = await store.get(markPath(lease));
      let text = "";
      if (file) for await (const chunk of file.read()) text += String(chunk);
      if (text !== "") marks.set(text, lease);
    }
    return marks;
  }

  async function take(logsPath: string, lease: string): Promise<boolean | "over"> {
    const folder = join(leaseFiles, lease);
    const names = await readdir(folder).catch(() => undefined);
    if (names === undefined) return "over";
    let changed = false;
    for (const name of names) {
      if (name.endsWith(".new")) continue;
      const file = join(folder, name);
      const found = await stat(file).catch(() => undefined);
      if (!found?.isFile()) continue;
      const path = `${logsPath}/rack/${name}`;
      const version = `${found.ino} ${found.size} ${found.mtimeMs}`;
      if (seen.get(path) === version && (await store.get(path))) continue;
      await store.put(path, { file });
      seen.set(path, version);
      changed = true;
    }
    return changed;
  }

  return {
    async add(logsPath, lease) {
      if (!isUuid(lease)) return;
      await store.put(markPath(lease), logsPath);
      (await open()).set(logsPath, lease);
    },
    async look(logsPath) {
      const lease = (await open()).get(logsPath);
      return lease !== undefined && (await take(logsPath, lease)) === true;
    },
    async lookAtAll(signal) {
      const changed: string[] = [];
      const marks = await open();
      for (const [logsPath, lease] of marks) {
        signal.throwIfAborted();
        const result = await take(logsPath, lease);
        if (result === true) changed.push(logsPath);
        if (result !== "over") continue;
        await store.remove(markPath(lease));
        marks.delete(logsPath);
        for (const path of seen.keys()) if (path.startsWith(`${logsPath}/`)) seen.delete(path);
      }
      return changed;
    },
  };
}
