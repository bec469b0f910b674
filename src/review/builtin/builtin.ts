/**
 * The built-in review system, joined from its parts: repositories, receiving, changes, verdicts,
 * events, views. What the program holds of it; the parts know nothing of each other but types.
 */
import type { Clock } from "../../base/clock.ts";
import { isoTime } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { Git } from "../../git/git-command.ts";
import { openRepositories } from "../../git/repositories.ts";
import { openGitServer } from "../../git/smart-http.ts";
import type { ChangeSummary, ChangeView } from "../../model/change.ts";
import type { Caller } from "../../model/identity.ts";
import type { Store } from "../../store/store.ts";
import type { ReviewPort } from "../review-port.ts";
import { openChanges } from "./changes.ts";
import { openGitDoor } from "./git-door.ts";
import type { GitDoor } from "./git-door.ts";
import { answerGerritQuery } from "./gerrit-query.ts";
import { openHookDoor } from "./hook-door.ts";
import { installHooks } from "./hook-files.ts";
import { labelRanges } from "./labels.ts";
import { openReceive } from "./receive.ts";
import { openReviewEvents } from "./review-events.ts";
import { settleProject } from "./settle.ts";
import { canMerge, submitChange } from "./submit.ts";
import { openVerdicts } from "./verdicts.ts";
import type { Verdicts } from "./verdicts.ts";
import { listChanges, neededBy, reviewChangeOf, viewOf } from "./views.ts";
import type { ListQuery, ViewParts } from "./views.ts";

/** What the API shows and does with changes (api/views.ts, ChangeViews). */
export type ChangeCalls = {
  list(query: ListQuery): Promise<{ items: readonly ChangeSummary[]; next: string | null }>;
  get(number: number): Promise<ChangeView>;
  comment(number: number, message: string, by: Caller): Promise<ChangeView>;
  vote(
    number: number,
    vote: { label: string; value: number; message?: string | undefined },
    by: Caller,
  ): Promise<ChangeView>;
  abandon(number: number, by: Caller): Promise<ChangeView>;
  restore(number: number, by: Caller): Promise<ChangeView>;
};

export type BuiltinReview = AsyncDisposable &
  ReviewPort & {
    readonly views: ChangeCalls;
    /** `/git/…` of the API, and of Gerrit's `/tools/hooks/commit-msg` and `/changes/?q=`. */
    readonly git: GitDoor;
    /** The projects that the layout names, from now on: made where they are not there. */
    setProjects(projects: readonly string[]): Promise<void>;
    /** Makes the project's repository if need be; gives its path. */
    ensureRepository(project: string): Promise<string>;
    /** Calls with a change's number after each change of it, the CI's reports included. */
    onChanged(listener: (change: number) => void): () => void;
    /** Packs the repositories; to be called now and then. */
    maintain(signal: AbortSignal): Promise<void>;
  };

export type BuiltinOptions = {
  /** The connection's name, e.g. `local`. */
  readonly connection: string;
  readonly store: Store;
  readonly git: Git;
  /** `<state>/server/git` */
  readonly repositoriesDirectory: string;
  /** `<state>/bin`: hooks and their program. */
  readonly binDirectory: string;
  /** Private socket for the hooks, e.g. `<state>/run/git.sock`. */
  readonly socketPath: string;
  /** The Node that runs the hook program. */
  readonly node: string;
  /** How people reach the server, without a slash at the end; known once it listens. */
  readonly url: () => string;
  readonly anonymousRead: "loopback" | "off";
  readonly buildsOf: ViewParts["buildsOf"];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
};

export async function openBuiltinReview(options: BuiltinOptions): Promise<BuiltinReview> {
  const { connection, store, git, clock, random, log } = options;
  const stop = new AbortController();
  const repositories = openRepositories(git, options.repositoriesDirectory);
  const events = openReviewEvents(store);
  const listeners = new Set<(change: number) => void>();
  const changes = openChanges({
    store,
    clock,
    random,
    onRecorded(entries) {
      events.wake();
      const touched = entries.map((entry) => entry.step?.to.number ?? entry.comment?.change);
      for (const number of new Set(touched)) {
        if (number !== undefined) for (const listener of listeners) listener(number);
      }
    },
  });
  const urlOf = (change: number): string => `${options.url()}/changes/${change}`;
  const settle = (project: string, by?: string): Promise<void> =>
    settleProject({ git, repositories, changes, connection, log }, project, by);
  const verdicts = openVerdicts(changes, connection);
  const receive = openReceive({
    git,
    repositories,
    changes,
    connection,
    urlOf,
    hookUrl: () => `${options.url()}/git/hooks/commit-msg`,
    now: () => isoTime(clock.wallMs()),
  });
  const hooksPath = await installHooks(options.binDirectory, options.node);
  const hooks = await openHookDoor({ socketPath: options.socketPath, receive, random, log });
  let projects = new Set<string>();
  const knows = (project: string): boolean => projects.has(project);
  return {
    connection,
    views: changeCalls({ changes, urlOf, buildsOf: options.buildsOf }, verdicts, settle),
    git: openGitDoor({
      repositories,
      knows,
      server: openGitServer({ git, log, signal: stop.signal }),
      hooks,
      hooksPath,
      anonymousRead: options.anonymousRead,
      query: (query, response) => answerGerritQuery(changes, options.url(), query, response),
      settle,
    }),
    async setProjects(names) {
      for (const name of names) await repositories.ensure(name);
      projects = new Set(names);
      for (const name of names) await settle(name);
    },
    ensureRepository: (project) => repositories.ensure(project),
    source: (project) => (knows(project) ? repositories.path(project) : undefined),
    change: async (number) => reviewChangeOf({ changes, urlOf }, await changes.get(number)),
    eventsSince: (seq, limit) => events.since(seq, limit),
    onNews: (ring) => events.onNews(ring),
    onChanged(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    report: (report) => verdicts.report(report),
    labels: () => labelRanges,
    neededBy: (number) => neededBy(changes, number),
    canMerge: (number, patchset) => canMerge({ changes }, number, patchset),
    submit: (number, patchset) =>
      submitChange({ git, repositories, changes, settle }, number, patchset),
    async maintain(signal) {
      for (const project of projects) await repositories.maintain(project, signal);
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await hooks[Symbol.asyncDispose]();
    },
  };
}

function changeCalls(
  parts: ViewParts,
  verdicts: Verdicts,
  settle: (project: string) => Promise<void>,
): ChangeCalls {
  const { changes } = parts;
  const get = async (number: number): Promise<ChangeView> =>
    viewOf(parts, await changes.get(number));
  return {
    get,
    list: (query) => listChanges(parts, query),
    async comment(number, message, by) {
      await verdicts.comment(number, message, by);
      return get(number);
    },
    async vote(number, vote, by) {
      await verdicts.vote(number, vote, by);
      return get(number);
    },
    async abandon(number, by) {
      await verdicts.abandon(number, by);
      return get(number);
    },
    async restore(number, by) {
      await verdicts.restore(number, by);
      // its commit may have reached the branch in the meantime
      await settle((await changes.get(number)).project);
      return get(number);
    },
  };
}
