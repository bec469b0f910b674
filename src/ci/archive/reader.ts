/**
 * Reading the archive: consoles by lines, files by ranges, folders. What still grows is read as
 * far as it goes: the console of a build that runs, the files of a lease that come late.
 */
import { join } from "node:path";
import { dirname } from "node:path/posix";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { ArchiveStore, StoredEntry, StoredFile } from "./archive-store.ts";
import { liveBytes, numberedLines } from "./console-reader.ts";
import type { NumberedLine } from "./console-reader.ts";
import type { LiveConsole } from "./console.ts";
import { openFileStore } from "./file-store.ts";
import type { OpenRacks } from "./rack-files.ts";

export type ReaderParts = {
  readonly store: ArchiveStore;
  readonly directory: string;
  readonly racks: Pick<OpenRacks, "look">;
  /** Builds that are not finished. */
  readonly lives: ReadonlyMap<string, { readonly logsPath: string; readonly console: LiveConsole }>;
  readonly log: Log;
};

export function openReader({ store, directory, racks, lives, log }: ReaderParts) {
  const running = openFileStore(join(directory, ".running"));

  /** Files of a lease that came meanwhile; where they cannot be taken, what is there is shown. */
  async function lookAtRack(folder: string): Promise<void> {
    const logsPath = folder.endsWith("/rack") ? folder.slice(0, -"/rack".length) : folder;
    await racks.look(logsPath).catch((error: unknown) => {
      log.warn({ logs: logsPath, error: describeError(error) }, "files of a lease not taken");
    });
  }

  /** The console of a build that runs, as far as it goes now. */
  async function openRunning(path: string): Promise<StoredFile | undefined> {
    for (const [id, { logsPath, console }] of lives) {
      if (path !== `${logsPath}/console.log`) continue;
      await console.flushed();
      return running.get(`${id}/console.log`);
    }
    return undefined;
  }

  return {
    /** Numbered lines; `follow` false: as far as it goes now. Throws ENOENT where there is none. */
    async *console(
      build: { id: string; logsPath: string },
      afterSeq: number,
      signal: AbortSignal,
      follow = true,
    ): AsyncGenerator<NumberedLine> {
      const live = lives.get(build.id)?.console;
      if (live) {
        yield* numberedLines(liveBytes(live, follow, signal), afterSeq);
        return;
      }
      const file = await store.get(`${build.logsPath}/console.log`);
      if (!file) throw Object.assign(new Error("no console yet"), { code: "ENOENT" });
      for await (const line of numberedLines(file.read(), afterSeq)) {
        if (signal.aborted) break; // which ends the reading
        yield line;
      }
    },
    async files(build: { logsPath: string }): Promise<{ path: string; bytes: number }[]> {
      await lookAtRack(build.logsPath);
      return store.list(build.logsPath);
    },
    /** A file by its path in the archive; a console that is being written too. */
    async open(path: string): Promise<StoredFile | undefined> {
      const folder = dirname(path);
      if (folder.endsWith("/rack")) await lookAtRack(folder);
      const file = await store.get(path);
      return file ?? (await openRunning(path));
    },
    async entries(folder: string): Promise<StoredEntry[]> {
      await lookAtRack(folder);
      return store.entries(folder);
    },
  };
}
