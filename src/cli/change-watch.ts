/**
 * `rackyard change watch N`: a change's checks from now to their vote, a line whenever something
 * changes. What it looks at is the present state, again and again, so that a server that restarts
 * meanwhile costs nothing.
 */
import type { Client } from "../api/client.ts";
import { isRackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { retry } from "../base/retry.ts";
import { pause } from "../base/wait.ts";
import { numberOf } from "./arguments.ts";
import type { CliContext } from "./context.ts";
import type { Input } from "./program.ts";

/** The parts of the API that are looked at. */
type Looked = {
  readonly changes: Pick<Client["changes"], "get">;
  readonly builds: Pick<Client["builds"], "list">;
  readonly pipelines: Pick<Client["pipelines"], "list">;
};

export type Seen = {
  /** Empty where nothing was said before either. */
  readonly lines: readonly string[];
  /** The exit code, once it is over: 0 where the CI voted for it or it is merged, else 1. */
  readonly over: 0 | 1 | undefined;
  /** Nothing is under way, and no report has come: what it was if none comes. */
  readonly last?: string;
};

export async function watchChange(
  { client, out, signal }: CliContext,
  { args }: Input,
): Promise<number> {
  const number = numberOf(args[0]);
  const api = await client();
  const told = new Set<string>();
  let unreported = 0;
  for (;;) {
    const seen = await retry(() => look(api, number), {
      tries: limits.followTries,
      signal,
      worth: (error) => isRackyardError(error, "unavailable"),
    });
    for (const line of seen.lines.filter((one) => !told.has(one))) {
      told.add(line);
      out.record({ event: "watch", change: number, line }, () => line);
    }
    if (seen.over !== undefined) return seen.over;
    // A cancelled check ends without a report.
    unreported = seen.last === undefined ? 0 : unreported + 1;
    if (seen.last !== undefined && unreported >= limits.followTries) {
      out.record({ event: "watch", change: number, line: seen.last }, () => seen.last ?? "");
      return 1;
    }
    await pause(limits.backoffFirstMs, signal);
  }
}

export async function look(api: Looked, number: number): Promise<Seen> {
  // What is under way is asked first: a vote that comes meanwhile is then seen, never missed.
  const pipelines = await api.pipelines.list();
  const change = await api.changes.get(number);
  const { patchset, status } = change;
  const underWay = pipelines.some(({ items }) =>
    items.some((item) => item.change === number && item.patchset === patchset),
  );
  const builds = (await api.builds.list({ change: number })).items
    .filter((build) => build.patchset === patchset)
    .reverse();
  const lines = builds.map(
    ({ id, job, state, result }) => `${id.slice(0, 8)} ${job}: ${result ?? state}`,
  );
  if (status !== "NEW") {
    return {
      lines: [...lines, `change ${number} is ${status}`],
      over: status === "MERGED" ? 0 : 1,
    };
  }
  if (underWay) return { lines, over: undefined };
  const vote = change.votes.find(({ label, value }) => label === "Verified" && value !== 0);
  if (vote === undefined && builds.length === 0) {
    return { lines: [`change ${number},${patchset}: no check has begun`], over: undefined };
  }
  // The report follows the last build's end and names the builds; a vote before it is an older one.
  const newest = builds.at(-1)?.id ?? "";
  const reported = change.comments.some(({ text }) => text.includes(newest.slice(0, 8)));
  const value =
    vote === undefined ? "no vote" : `Verified ${vote.value > 0 ? "+" : ""}${vote.value}`;
  const last = `change ${number},${patchset}: ${value}`;
  const over = (vote?.value ?? 0) > 0 ? 0 : 1;
  return reported ? { lines: [...lines, last], over } : { lines, over: undefined, last };
}
