/**
 * What a pusher wrote behind `refs/for/`: a branch, by its short or full name, and options after
 * `%` or by `git push -o`, as Gerrit's clients send them (`git review -t`, `-w`, `-W`). What has
 * no meaning here is taken with a word; what would do something else than asked is refused. Pure.
 */

export type PushWish =
  | { readonly kind: "wish"; readonly branch: string; readonly notes: readonly string[] }
  | { readonly kind: "refused"; readonly sentence: string; readonly remedy?: string };

/** Gerrit's options that tell people something; nothing is tested otherwise for them. */
const withoutMeaning = [
  "topic",
  "t",
  "hashtag",
  "wip",
  "work-in-progress",
  "ready",
  "private",
  "remove-private",
  "r",
  "reviewer",
  "cc",
  "m",
  "message",
  "l",
  "label",
  "notify",
  "notify-to",
  "notify-cc",
  "notify-bcc",
  "publish-comments",
  "no-publish-comments",
  "deadline",
  "trace",
];

/** They ask for an act that does not follow. */
const refused: Readonly<Record<string, string>> = {
  submit: "a change is not merged by its push",
  merged: "a change is merged when its branch contains it",
  edit: "there are no change edits: push the next patchset",
  base: "a change is based on its branch",
  "skip-validation": "a push is always checked",
  draft: "there are no drafts",
};

/** `wanted`: what stands behind `refs/for/`. `isBranch`: whether the project has such a branch. */
export function readPushWish(
  wanted: string,
  pushOptions: readonly string[],
  isBranch: (name: string) => boolean,
): PushWish {
  const whole = wanted.replace(/^refs\/heads\//, "");
  const at = isBranch(whole) ? -1 : whole.indexOf("%");
  const branch = at < 0 ? whole : whole.slice(0, at);
  const inRef = at < 0 ? [] : whole.slice(at + 1).split(",");
  const left: string[] = [];
  for (const option of [...inRef, ...pushOptions]) {
    const name = /^[^=]*/.exec(option)![0].trim();
    if (name === "") continue;
    const reason = Object.hasOwn(refused, name) ? refused[name] : undefined;
    if (reason !== undefined) {
      return { kind: "refused", sentence: `option ${name}: ${reason}` };
    }
    if (!withoutMeaning.includes(name)) {
      return {
        kind: "refused",
        sentence: `options are not understood: ${JSON.stringify(name.slice(0, 50))}`,
        remedy: "push to refs/for/<branch>; options that are known: topic=…, wip, ready, r=…, cc=…",
      };
    }
    if (!left.includes(name)) left.push(name);
  }
  if (left.length === 0) return { kind: "wish", branch, notes: [] };
  return {
    kind: "wish",
    branch,
    notes: [`note: ${left.join(", ")}: without meaning here, left out`],
  };
}
