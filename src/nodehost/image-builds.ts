/**
 * Builds the images of node labels from their recipes (lease.md §6, H-7.8), one at a time, and
 * remembers by recipe and disk size what came of it; a known recipe is never built again. The
 * recipe's program runs outside of the cell, which has no way out, by a way that main hands in.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, normalize } from "node:path";
import { z } from "zod";
import { isoTime } from "../base/clock.ts";
import type { Clock } from "../base/clock.ts";
import { forEachLine, launch, plainEnv } from "../base/command.ts";
import type { Exit } from "../base/command.ts";
import { describeError, fail } from "../base/errors.ts";
import { sha256Hex } from "../base/ids.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { within } from "../base/wait.ts";
import type { ImageStore, StoredImage } from "../image/content-store.ts";
import type { ToHost } from "../model/session.ts";
import type { FromHost } from "../session/session-port.ts";
import type { LifeKind, Store } from "../store/store.ts";
import { endAbandonedBuild, endLeftovers, noteBuild, programEnds } from "./abandoned-build.ts";

const bodySchema = z.strictObject({
  name: z.string(),
  recipe: z.string(),
  digest: z.string(),
  sizeBytes: z.int(),
  builtAt: z.string(),
});
export type BuiltImage = z.output<typeof bodySchema>;

/** The last image of each name that this host has; a: name, b: digest. */
const imageLife: LifeKind<BuiltImage> = {
  life: "image",
  columns: (image) => ({ a: image.name, b: image.digest }),
};

type BuildMessage = Extract<ToHost, { kind: "image-build" }>;

/** How a program is run in the machine's own namespaces. */
export type OutsideCommand = (
  program: string,
  args: readonly string[],
) => Promise<{ readonly program: string; readonly args: readonly string[] }>;

export type ImageBuilds = AsyncDisposable & {
  start(): Promise<void>;
  /** Resolves when it is under way or answered; the outcome is told by messages. */
  build(message: BuildMessage): Promise<void>;
  reports(): BuiltImage[];
};

export async function openImageBuilds(options: {
  readonly images: ImageStore;
  readonly store: Store;
  /** Its own: recipes and what a build leaves. */
  readonly workFolder: string;
  /** Packages that builds fetched, for the next one. */
  readonly packagesFolder: string;
  readonly maxVirtualGiB: number;
  readonly outside: OutsideCommand;
  readonly clock: Clock;
  readonly log: Log;
  readonly send: (message: FromHost) => void;
}): Promise<ImageBuilds> {
  const { images, store, clock, log, send } = options;
  const stop = new AbortController();
  const present = new Map<string, BuiltImage>();
  const running = new Map<string, Promise<void>>();
  let last: Promise<unknown> = Promise.resolve();

  async function keep(name: string, recipe: string, image: StoredImage, builtAt: string) {
    const { digest, sizeBytes } = image;
    const body = { name, recipe, digest, sizeBytes, builtAt };
    const from = present.has(name) ? "ready" : null;
    await store.transaction((tx) =>
      store.append(tx, imageLife, {
        id: name,
        from,
        event: "built",
        to: "ready",
        body,
        atMs: clock.wallMs(),
      }),
    );
    present.set(name, body);
    send({ kind: "image-ready", report: body });
  }

  /** Built before, here or by another installation that shares the place. */
  async function known(message: BuildMessage): Promise<boolean> {
    const built = await images.recall(keyOf(message));
    const image = built && (await images.find(built.digest));
    if (!built || !image) return false;
    await keep(message.name, message.recipe, image, built.builtAt);
    return true;
  }

  async function buildAnew(message: BuildMessage): Promise<void> {
    const { name, recipe } = message;
    const folder = join(options.workFolder, recipe.slice(0, 16));
    const tail: string[] = [];
    try {
      await rm(folder, { recursive: true, force: true });
      const recipeFolder = await writeRecipe(join(folder, "recipe"), message);
      const out = join(folder, "image.qcow2");
      await runBuild(message, recipeFolder, out, join(folder, "work"), tail);
      const virtual = Math.min(message.diskGiB, options.maxVirtualGiB) * 1024 ** 3;
      const bounds = { maxBytes: virtual, maxVirtualBytes: virtual, signal: stop.signal };
      const image = await images.adopt(out, bounds);
      const builtAt = isoTime(clock.wallMs());
      await images.remember(keyOf(message), { digest: image.digest, builtAt });
      await keep(name, recipe, image, builtAt);
      log.info({ image: name, digest: image.digest, bytes: image.sizeBytes }, "image built");
    } catch (error) {
      if (stop.signal.aborted) return;
      const detail = [...tail, describeError(error)].join("\n");
      log.error({ image: name, why: describeError(error) }, "image build failed");
      send({ kind: "image-failed", name, recipe, detail });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async function runBuild(
    message: BuildMessage,
    recipeFolder: string,
    out: string,
    work: string,
    tail: string[],
  ): Promise<void> {
    const command = await options.outside("nice", [
      "-n",
      "5",
      join(recipeFolder, "build"),
      out,
      work,
    ]);
    await using child = launch(command.program, command.args, {
      cwd: recipeFolder,
      env: plainEnv({
        RECIPE_DIR: recipeFolder,
        IMAGE_DISK_GIB: String(message.diskGiB),
        CACHE_DIR: options.packagesFolder,
      }),
    });
    let said = "";
    const onLine = (line: string): void => {
      tail.push(line);
      if (tail.length > limits.imageBuildTailLines) tail.shift();
      const step = /^step: (.{1,100})$/.exec(line)?.[1];
      if (step) send({ kind: "image-progress", name: message.name, step });
    };
    const read = Promise.all([
      forEachLine(child.stdout!, onLine),
      forEachLine(child.stderr!, (line) => {
        said = line;
        onLine(line);
      }),
    ]);
    const ended = programEnds(child, read);
    ended.catch(() => undefined); // whoever waits sees it
    // after its streams are read: what a child that has ended said is kept for nobody
    await noteBuild(options.workFolder, child.pid);
    const what = `the build of ${message.name}`;
    let exit: Exit;
    try {
      exit = await within(limits.imageBuildMs, what, ended, stop.signal);
    } finally {
      await child.end();
      const left = await endLeftovers(dirname(recipeFolder));
      if (left > 0) log.warn({ image: message.name, left }, "the recipe left processes; ended");
    }
    if (exit.code === 0) return;
    // a recipe's last line of stderr is its reason
    const why = said === "" ? "" : `: ${said}`;
    fail("command-failed", `the build of ${message.name}: exit ${exit.code}${why}`);
  }

  return {
    async start() {
      await endAbandonedBuild(options.workFolder);
      await rm(options.workFolder, { recursive: true, force: true });
      await mkdir(options.workFolder, { recursive: true });
      for (const { body } of await store.rows(imageLife, { limit: 1_000 })) {
        if (await images.find(body.digest)) present.set(body.name, body);
      }
    },
    async build(message) {
      const key = keyOf(message);
      const underWay = running.get(key);
      if (underWay) {
        // asked again meanwhile: the answer is the same, once there is one
        underWay
          .then(() => known(message))
          .catch((error: unknown) => {
            log.error({ image: message.name, why: describeError(error) }, "no answer");
          });
        return;
      }
      if (await known(message)) return;
      const done = last.then(() => (stop.signal.aborted ? undefined : buildAnew(message)));
      last = done;
      running.set(
        key,
        done.finally(() => running.delete(key)),
      );
    },
    reports: () => [...present.values()],
    async [Symbol.asyncDispose]() {
      stop.abort();
      await last;
    },
  };
}

function keyOf(message: BuildMessage): string {
  if (!/^[0-9a-f]{64}$/.test(message.recipe)) fail("bad-request", "a recipe's digest is SHA-256");
  return `${message.recipe}-${message.diskGiB}`;
}

/** The recipe's files as they were sent, each with the digest that it was announced with. */
async function writeRecipe(folder: string, message: BuildMessage): Promise<string> {
  for (const file of message.files) {
    const path = normalize(file.path);
    if (path.startsWith("/") || path.split("/").includes("..")) {
      fail("bad-request", `${file.path} is not inside of the recipe`);
    }
    const content = Buffer.from(file.contentBase64, "base64");
    if (sha256Hex(content) !== file.sha256)
      fail("bad-request", `${path} is not what was announced`);
    await mkdir(dirname(join(folder, path)), { recursive: true });
    if (path === "build" && /^#![^\n]*\r\n/.test(content.subarray(0, 512).toString("latin1"))) {
      fail(
        "bad-request",
        "the recipe's build has CRLF line ends: its first line names no program",
        {
          remedy: "convert it to LF line ends (dos2unix), and keep them in git: build text eol=lf",
        },
      );
    }
    await writeFile(join(folder, path), content, { mode: file.mode & 0o777 });
  }
  return folder;
}
