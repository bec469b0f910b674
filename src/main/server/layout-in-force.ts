/**
 * The layout in force, over restarts too: the files of the last layout that was accepted are kept.
 * A server that starts with a folder that has a fault goes on with those, as one that is told to
 * reload does; what is wrong with the folder is said in the log and in `status`.
 */
import { z } from "zod";
import { describeError, isRackyardError } from "../../base/errors.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import type { Log } from "../../base/log.ts";
import type { Layout } from "../../ci/layout/layout.ts";
import type { LayoutFile } from "../../ci/layout/reader.ts";
import type { Settings } from "./settings.ts";

export type LayoutInForce = {
  /** For the start: the folder's, else the kept one. Throws `bad-layout` where there is neither. */
  atStart(settings: Settings): Promise<Layout>;
  /** For a reload: the folder's, or throws what is wrong with it. */
  afresh(settings: Settings): Promise<Layout>;
  /** This one is in force now: it is the one to keep. */
  accepted(): Promise<void>;
  /** What is wrong with the folder, a sentence; undefined: nothing. */
  fault(): string | undefined;
};

const keptSchema = z.array(z.strictObject({ file: z.string(), text: z.string() }));

export function openLayoutInForce(path: string, log: Log): LayoutInForce {
  let read: readonly LayoutFile[] | undefined;
  let fault: string | undefined;

  const fromFolder = async (settings: Settings): Promise<Layout> => {
    try {
      const files = await settings.readLayoutFiles();
      const layout = settings.checkLayout(files);
      read = files;
      return layout;
    } catch (error) {
      fault = `${describeError(error)}; the last good layout is in force`;
      throw error;
    }
  };

  return {
    async atStart(settings) {
      try {
        return await fromFolder(settings);
      } catch (error) {
        if (!isRackyardError(error, "bad-layout") && !isRackyardError(error, "not-supported-yet")) {
          throw error;
        }
        const layout = await keptLayout(path, settings, log);
        if (!layout) throw error;
        log.error(
          { error: describeError(error) },
          "the layout is refused: the last good one stays",
        );
        return layout;
      }
    },
    afresh: fromFolder,
    async accepted() {
      if (!read) return; // the kept one
      fault = undefined;
      try {
        await writeFileAtomic(path, `${JSON.stringify(read)}\n`);
      } catch (error) {
        // It is in force all the same; only a restart with a faulty folder would miss it.
        log.warn({ error: describeError(error) }, "the layout in force could not be kept");
      }
      read = undefined;
    },
    fault: () => fault,
  };
}

/** Undefined where none was kept, or where it no longer fits the configuration. */
async function keptLayout(path: string, settings: Settings, log: Log): Promise<Layout | undefined> {
  try {
    const text = await readTextIfAny(path);
    return text === undefined
      ? undefined
      : settings.checkLayout(keptSchema.parse(JSON.parse(text)));
  } catch (error) {
    log.error({ error: describeError(error) }, "the layout that was kept is of no use");
    return undefined;
  }
}
