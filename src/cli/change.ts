/**
 * `rackyard change …`: changes of the review system, looked at and acted on through the API.
 */
import { fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { ChangeSummary } from "../model/change.ts";
import { numberOf, textOption } from "./arguments.ts";
import { waitLines, waitsOf } from "./build-waits.ts";
import { agoText, timeText } from "./output.ts";
import type { Output } from "./output.ts";
import type { Program, Verb } from "./program.ts";

export function addChangeCommands(program: Program): void {
  program.noun("change", "Changes under review: look, vote, give up, check again");
  program.add("change list", listVerb);
  program.add("change show", showVerb);
  program.add("change watch", {
    ...watchWords,
    async run(context, input) {
      const { watchChange } = await import("./change-watch.ts");
      return watchChange(context, input);
    },
  });
  program.add("change vote", voteVerb);
  program.add("change comment", commentVerb);
  program.add("change approve", approveVerb);
  program.add("change abandon", act("abandon", "Give a change up; its builds stop"));
  program.add("change restore", act("restore", "Take an abandoned change up again"));
  program.add("change recheck", recheckVerb);
}

const listVerb: Verb = {
  summary: "Changes, newest first",
  example: "rackyard change list --project installer --status NEW",
  options: [
    ["--project <name>", "of this project alone"],
    ["--status <status>", "NEW, MERGED or ABANDONED"],
    ["--owner <name>", "of this person alone"],
    ["--limit <n>", `how many at most (${limits.pageItemsDefault})`],
  ],
  async run({ client, out }, { options }) {
    const api = await client();
    const page = await api.changes.list({
      project: textOption(options, "project"),
      status: textOption(options, "status"),
      owner: textOption(options, "owner"),
      limit: textOption(options, "limit"),
    });
    out.result(page, () =>
      out.table(
        ["change", "status", "project", "owner", "votes", "subject"],
        page.items.map((change) => [
          `${change.number},${change.patchset}`,
          change.status,
          change.project,
          change.owner,
          votesText(out, change, ""),
          change.subject,
        ]),
      ),
    );
  },
};

const showVerb: Verb = {
  summary: "One change: votes, comments, builds, and why they wait",
  example: "rackyard change show 4",
  args: "<number>",
  async run({ client, out }, { args }) {
    const api = await client();
    const change = await api.changes.get(numberOf(args[0]));
    const { items } = await api.builds.list({ change: change.number });
    const waits = await waitsOf(api, items);
    out.result({ ...change, waits }, () => {
      const builds = items.map((build) => [
        build.id.slice(0, 8),
        `${build.patchset}`,
        build.job,
        build.result === null ? build.state : resultText(out, build.result),
        agoText(build.endedAt ?? build.startedAt ?? build.createdAt, Date.now()),
      ]);
      const parts = [
        `${out.style("bold", `${change.number},${change.patchset}`)}  ${change.subject}`,
        `${change.project} ${change.branch}, ${change.status}, by ${change.owner}`,
        change.url,
        `votes: ${votesText(out, change) || "none"}`,
        ...(change.dependsOn.length > 0 ? [`needs: ${change.dependsOn.join(", ")}`] : []),
        "",
        out.table(["build", "patchset", "job", "result", "when"], builds),
        ...waitLines(waits).map((line) => out.style("yellow", line)),
        ...change.comments.flatMap((comment) => [
          "",
          out.style("dim", `${comment.by}, patchset ${comment.patchset}, ${timeText(comment.at)}`),
          comment.text.trimEnd(),
        ]),
      ];
      return parts.join("\n");
    });
  },
};

const watchWords = {
  summary: "Follow a change's checks to their vote; exit 0 if it is for the change",
  example: "rackyard change watch 4",
  args: "<number>",
};

const voteVerb: Verb = {
  summary: "Vote on the current patchset; 0 takes a vote back",
  example: "rackyard change vote 4 Code-Review=-2 --message 'breaks the seed'",
  args: "<number> <vote...>",
  options: [["--message <text>", "say this with it"]],
  async run({ client, out }, { args, options }) {
    const number = numberOf(args[0]);
    const votes = args.slice(1).map(voteOf);
    const message = textOption(options, "message");
    const api = await client();
    let change = await api.changes.get(number);
    for (const [n, vote] of votes.entries()) {
      const said = n === 0 && message !== undefined ? { message } : {};
      change = await api.changes.vote(number, { ...vote, ...said });
    }
    out.result(change, () => `change ${number}: ${votesText(out, change) || "no votes"}`);
  },
};

/** `Code-Review=-2`, `Verified=+1`. */
function voteOf(text: string): { label: string; value: number } {
  const found = /^([A-Za-z][A-Za-z-]*)=([-+]?[0-9])$/.exec(text);
  if (found) return { label: found[1]!, value: Number(found[2]) };
  return fail("usage", `${text} is no vote: write LABEL=VALUE`, {
    remedy: "for example Code-Review=-1",
  });
}

const commentVerb: Verb = {
  summary: "Say something about a change; pipelines hear it",
  example: "rackyard change comment 4 'see the console of unit'",
  args: "<number> <text...>",
  async run({ client, out }, { args }) {
    const number = numberOf(args[0]);
    const change = await (await client()).changes.comment(number, args.slice(1).join(" "));
    out.result(change, () => `change ${number}: said`);
  },
};

const approveVerb: Verb = {
  summary: "Vote Workflow +1, with --code-review N beside it",
  example: "rackyard change approve 4 --code-review 2",
  args: "<number>",
  options: [
    ["--code-review <n>", "vote Code-Review too, 1 or 2"],
    ["--message <text>", "say this with it"],
  ],
  async run({ client, out }, { args, options }) {
    const number = numberOf(args[0]);
    const review = textOption(options, "codeReview");
    const message = textOption(options, "message");
    const value = review === undefined ? undefined : Number(review);
    if (value !== undefined && value !== 1 && value !== 2) {
      fail("usage", `--code-review is 1 or 2 where a change is approved, not ${review}`, {
        remedy: `for other votes: rackyard change vote ${number} Code-Review=${review}`,
      });
    }
    const api = await client();
    if (value !== undefined) await api.changes.vote(number, { label: "Code-Review", value });
    const vote = { label: "Workflow", value: 1, ...(message === undefined ? {} : { message }) };
    const change = await api.changes.vote(number, vote);
    out.result(change, () => `change ${number}: ${votesText(out, change)}`);
  },
};

const recheckVerb: Verb = {
  summary: "Start the checks of the current patchset again",
  example: "rackyard change recheck 4",
  args: "<number>",
  async run({ client, out }, { args }) {
    const api = await client();
    const number = numberOf(args[0]);
    const { status, patchset } = await api.changes.get(number);
    if (status !== "NEW") {
      const sentence = `change ${number} is ${status.toLowerCase()}: nothing is checked of it`;
      const remedy = `rackyard change restore ${number}`;
      fail("change-closed", sentence, status === "ABANDONED" ? { remedy } : {});
    }
    // P-3: what is under way goes on, a comment does not begin it twice
    const underWay = (await api.pipelines.list())
      .filter(({ items }) => items.some((i) => i.change === number && i.patchset === patchset))
      .map(({ name }) => name);
    const change = await api.changes.comment(number, "recheck");
    out.result(change, () =>
      underWay.length === 0
        ? `change ${number}: checks start again`
        : `change ${number} is under way in ${underWay.join(", ")} already: that goes on`,
    );
  },
};

function act(name: "abandon" | "restore", summary: string): Verb {
  return {
    summary,
    example: `rackyard change ${name} 4`,
    args: "<number>",
    async run({ client, out }, { args }) {
      const api = await client();
      const change = await api.changes[name](numberOf(args[0]));
      out.result(change, () => `change ${change.number} is ${change.status}`);
    },
  };
}

/** `Verified +1 (Rackyard CI)`; `by` "" leaves the names out. */
function votesText(out: Output, change: ChangeSummary, names?: ""): string {
  return change.votes
    .filter((vote) => vote.value !== 0)
    .map(({ label, value, by }) =>
      out.style(
        value > 0 ? "green" : "red",
        `${label} ${value > 0 ? "+" : ""}${value}${names ?? ` (${by})`}`,
      ),
    )
    .join(" ");
}

/** A result in its colour. */
export function resultText(out: Output, result: string): string {
  if (result === "SUCCESS") return out.style("green", result);
  const neutral = ["CANCELED", "ABORTED", "SKIPPED", "RETRY"].includes(result);
  return out.style(neutral ? "yellow" : "red", result);
}
