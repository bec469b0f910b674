/**
 * One change: votes, what was said, its patchsets, its builds. Calls only the public API.
 */
import {
  buildColumns,
  buildRow,
  changeLink,
  follow,
  get,
  h,
  items,
  keepTimes,
  load,
  put,
  showLive,
  soon,
  table,
  when,
  word,
} from "./parts.js";

const main = document.getElementById("main");
const number = Number(location.pathname.split("/")[2]);

const read = async () => {
  const [change, builds] = await Promise.all([
    get(`/v1/changes/${number}`),
    items(`/v1/builds?change=${number}&limit=200`),
  ]);
  show(change, builds);
};
if (await load(main, read)) {
  const again = soon(read);
  const mine = ({ event, data }) => {
    if (event === "resync") return again();
    const { subject, body } = JSON.parse(data);
    if (subject === String(number) || body.change === number || body.number === number) again();
  };
  void follow("/v1/events?state=false&topic=change,item,build", mine, showLive);
  keepTimes();
}

function show(change, builds) {
  document.title = `${change.number} ${change.subject} · rackyard`;
  put(
    main,
    h(
      "div",
      { class: "head" },
      h("h1", {}, change.subject),
      word(change.status === "NEW" ? "open" : change.status, true),
    ),
    h(
      "p",
      { class: "lead" },
      `change ${change.number}, patchset ${change.patchset} of ${change.project} ${change.branch}, by ${change.owner}`,
    ),
    h(
      "dl",
      { class: "facts" },
      votesOf(change),
      change.dependsOn.length > 0
        ? h(
            "div",
            {},
            h("dt", {}, "Needs"),
            h(
              "dd",
              {},
              change.dependsOn.map((other, n) => [n > 0 ? ", " : "", changeLink(other)]),
            ),
          )
        : null,
      h(
        "div",
        {},
        h("dt", {}, "Change-Id"),
        h("dd", { class: "mono" }, change.changeId.slice(0, 12)),
      ),
    ),
    h(
      "section",
      {},
      h("h2", {}, "Builds"),
      table(
        buildColumns,
        builds.map(buildRow),
        "None yet: no job is configured for this project, or its checks have not begun.",
      ),
    ),
    h("section", {}, h("h2", {}, "What was said"), comments(change)),
    h("section", {}, h("h2", {}, "Patchsets"), patchsets(change)),
  );
}

function votesOf(change) {
  const cast = change.votes.filter((vote) => vote.value !== 0);
  if (cast.length === 0) return h("div", {}, h("dt", {}, "Votes"), h("dd", {}, "none"));
  return cast.map((vote) => {
    const text = `${vote.value > 0 ? "+" : ""}${vote.value}`;
    const tone = vote.value > 0 ? "good" : "bad";
    return h(
      "div",
      {},
      h("dt", {}, vote.label),
      h("dd", {}, h("span", { class: `word ${tone}` }, text), ` ${vote.by}`),
    );
  });
}

function comments(change) {
  if (change.comments.length === 0) {
    return h("div", { class: "panel" }, h("p", { class: "nothing" }, "Nothing yet."));
  }
  return h(
    "ul",
    { class: "talk panel" },
    change.comments.map((comment) =>
      h(
        "li",
        {},
        h("strong", {}, comment.by),
        h("span", { class: "soft" }, ` on patchset ${comment.patchset}, `),
        when(comment.at),
        h("pre", {}, linked(comment.text.trimEnd())),
      ),
    ),
  );
}

/** Addresses of this server become links; others stay text. */
function linked(text) {
  return text.split(/(https?:\/\/[^\s)]+)/).map((piece, n) => {
    if (n % 2 === 0) return piece;
    const url = URL.parse(piece);
    const own =
      url && (url.origin === location.origin || /^\/(builds|changes|logs)\//.test(url.pathname));
    return own ? h("a", { href: url.pathname + url.hash }, piece) : piece;
  });
}

function patchsets(change) {
  const columns = [
    { name: "Patchset" },
    { name: "Commit" },
    { name: "By" },
    { name: "When", class: "tight" },
    { name: "Fetch", class: "wide" },
  ];
  const rows = change.patchsets
    .toReversed()
    .map((patchset) => [
      String(patchset.number),
      h("span", { class: "mono" }, patchset.commit.slice(0, 10)),
      patchset.uploader,
      when(patchset.createdAt),
      h("code", {}, patchset.ref),
    ]);
  return table(columns, rows, "None.");
}
