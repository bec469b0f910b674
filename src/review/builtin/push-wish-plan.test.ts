import { expect, test } from "vitest";
import { readPushWish } from "./push-wish-plan.ts";

const branches = ["master", "stable/x", "100%sure"];
const read = (wanted: string, ...options: string[]) =>
  readPushWish(wanted, options, (name) => branches.includes(name));

test.each([
  ["master", "master"],
  ["refs/heads/master", "master"],
  ["refs/heads/stable/x", "stable/x"],
  ["nowhere", "nowhere"],
  ["100%sure", "100%sure"],
  ["master%", "master"],
])("refs/for/%s means branch %s", (wanted, branch) => {
  expect(read(wanted)).toEqual({ kind: "wish", branch, notes: [] });
});

test.each([
  ["master%topic=fix", [], "topic"],
  ["master%ready", [], "ready"],
  ["refs/heads/master%wip,topic=a=b,r=ann@example.com", [], "wip, topic, r"],
  ["master", ["topic=x", "notify=NONE"], "topic, notify"],
  ["master%topic=x", ["topic=y"], "topic"],
])("what Gerrit's clients add to %s %j is taken with a word", (wanted, options, left) => {
  expect(read(wanted, ...options)).toEqual({
    kind: "wish",
    branch: "master",
    notes: [`note: ${left}: without meaning here, left out`],
  });
});

test.each([
  ["master%submit", [], /not merged by its push/],
  ["master%toppic=x", [], /options are not understood: "toppic"/],
  ["master", ["base=abc"], /based on its branch/],
  ["master", ["__proto__"], /not understood/],
])("%s %j is refused: it would not do what it says", (wanted, options, sentence) => {
  const wish = read(wanted, ...options);
  expect(wish.kind === "refused" && wish.sentence).toMatch(sentence);
});
