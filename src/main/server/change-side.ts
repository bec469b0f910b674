/**
 * The change's side of the server: git, the review system, the merger with the nodes' door, the
 * archive. Opened and handed what they need; they know nothing of each other.
 */
import { systemRandom } from "../../base/random.ts";
import { openFileArchive } from "../../ci/archive/archive.ts";
import type { FileArchive } from "../../ci/archive/archive.ts";
import { openMerger } from "../../ci/merger/merger.ts";
import type { Merger } from "../../ci/merger/merger.ts";
import { openGit } from "../../git/git-command.ts";
import type { Git } from "../../git/git-command.ts";
import { openNodesDoor } from "../../git/nodes-door.ts";
import type { NodesDoor } from "../../git/nodes-door.ts";
import { openBuiltinReview } from "../../review/builtin/builtin.ts";
import type { BuiltinReview } from "../../review/builtin/builtin.ts";
import type { Base } from "./base.ts";
import { buildsOfChanges } from "./views.ts";

export type ChangeSide = {
  readonly review: BuiltinReview;
  readonly merger: Merger;
  readonly door: NodesDoor;
  readonly archive: FileArchive;
};

export async function openChangeSide(base: Base): Promise<ChangeSide> {
  const { places, log, clock, stack, troubles, settings } = base;
  const git = await openGit(places.server);
  const review = stack.use(await openReview(base, git));
  const merger = openMerger({
    directory: places.merger,
    git,
    source: (project) => review.source(project),
    log: log.child({ component: "merger" }),
  });
  const door = openNodesDoor({
    git,
    repositories: merger.repositories,
    log: log.child({ component: "nodes-door" }),
  });
  stack.use(door);
  const archive = openFileArchive({
    directory: places.archive,
    clock,
    log: log.child({ component: "archive" }),
    keepDays: settings.config.archive.keepDays,
    maxBytes: settings.config.archive.maxGiB * 2 ** 30,
    troubles,
  });
  stack.use(archive);
  return { review, merger, door, archive };
}

function openReview(
  { places, settings, store, clock, log, url }: Base,
  git: Git,
): Promise<BuiltinReview> {
  const { config } = settings;
  return openBuiltinReview({
    connection: Object.keys(config.connections)[0]!,
    store,
    git,
    repositoriesDirectory: places.git,
    binDirectory: places.bin,
    socketPath: places.gitSocket,
    node: process.execPath,
    url,
    anonymousRead: config.server.anonymousRead,
    buildsOf: (changes) => buildsOfChanges(store, changes),
    clock,
    random: systemRandom,
    log: log.child({ component: "review" }),
  });
}
