/**
 * One build: what came of it and why, when what happened, its console as it is written, its
 * files. Calls only the public API; what it shows, `rackyard build show` shows too.
 */
import {
  changeLink,
  follow,
  get,
  getText,
  h,
  items,
  keepTimes,
  load,
  outcome,
  put,
  buildColumns,
  buildRow,
  short,
  showLive,
  size,
  soon,
  span,
  table,
  when,
} from "./parts.js";
import { screen } from "./console.js";

const main = document.getElementById("main");
const id = location.pathname.split("/")[2];
const parts = Object.fromEntries(
  ["head", "why", "evidence", "steps", "console", "file", "files", "attempts"].map((name) => [
    name,
    h("div", { id: name }),
  ]),
);
let build;
let timeline = [];
let shownFile;

await load(main, async () => {
  await read();
  put(main, Object.values(parts));
  show();
  openConsole();
  await openFile();
});
if (build) {
  const again = soon(async () => {
    await read();
    show();
  });
  const mine = ({ event, data }) => {
    if (event === "resync") return again();
    const { subject, body } = JSON.parse(data);
    const names = [
      build.id,
      build.buildset,
      build.lease,
      build.te,
      build.node,
      String(build.change),
    ];
    if (names.includes(subject) || body.build === build.id) again();
  };
  void follow("/v1/events", mine, showLive);
  setInterval(() => {
    if (build.state !== "reported") again();
  }, 3_000);
  setInterval(() => {
    if (build.state !== "reported") showSteps();
  }, 1_000);
  addEventListener("hashchange", () => void load(main, openFile));
  keepTimes();
}

async function read() {
  [build, timeline] = await Promise.all([
    get(`/v1/builds/${id}`),
    items(`/v1/builds/${id}/timeline`),
  ]);
}

function show() {
  document.title = `${build.result ?? build.state} · ${build.job} · rackyard`;
  showHead();
  showSteps();
  showEvidence();
  void showWhy();
  void showFiles();
  void showAttempts();
}

function fact(name, ...value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
}

function showHead() {
  const from = build.startedAt && Date.parse(build.startedAt);
  const to = build.endedAt ? Date.parse(build.endedAt) : Date.now();
  const change = build.change === null ? null : changeLink(build.change, build.patchset);
  put(
    parts.head,
    h(
      "div",
      { class: "head" },
      h("h1", {}, build.job),
      outcome(build, true),
      build.voting ? null : h("span", { class: "soft" }, "non-voting"),
    ),
    h(
      "p",
      { class: "lead" },
      change ? ["change ", change, " of "] : "",
      build.project,
      ` ${build.branch}, pipeline ${build.pipeline}`,
    ),
    build.errorDetail ? h("p", { class: "note" }, build.errorDetail) : null,
    build.interruptions.length > 0
      ? h(
          "div",
          { class: "note" },
          h("strong", {}, "The rack was disturbed while this build had it"),
          h(
            "ul",
            {},
            build.interruptions.map((one) =>
              h("li", {}, [one.machine, one.text].filter(Boolean).join(": "), " ", when(one.at)),
            ),
          ),
        )
      : null,
    h(
      "dl",
      { class: "facts" },
      fact("Attempt", `${build.attempt} of ${build.maxAttempts}`),
      fact("Took", from ? span(to - from) : "not started"),
      fact("Started", when(build.startedAt)),
      fact("Node", build.nodeAddress ?? "–"),
      fact("Rack", build.te ? `${build.te}, epoch ${build.epoch}` : "none"),
      fact("Build", h("span", { class: "mono" }, short(build.id))),
    ),
  );
}

function showEvidence() {
  if (build.evidence.length === 0) return put(parts.evidence);
  put(
    parts.evidence,
    h(
      "section",
      {},
      h("h2", {}, "What the logs say"),
      h(
        "ul",
        { class: "evidence panel" },
        build.evidence.map((one) =>
          h(
            "li",
            {},
            h("pre", {}, one.text),
            h(
              "a",
              {
                href: `#file=${encodeURIComponent(one.file)}&line=${one.line}`,
                "data-key": `${one.file}:${one.line}`,
              },
              `${one.file}, line ${one.line}`,
            ),
            h("span", { class: "soft" }, ` (${one.rule})`),
          ),
        ),
      ),
    ),
  );
}

/** While it waits: for what, and how long about. */
async function showWhy() {
  if (!["waiting", "acquiring"].includes(build.state)) return put(parts.why);
  const reasons = [];
  const pipelines = await items("/v1/pipelines").catch(() => []);
  for (const item of pipelines.flatMap((pipeline) => pipeline.items)) {
    for (const job of item.jobs) if (job.build === build.id && job.why) reasons.push(job.why);
  }
  if (build.lease) {
    const lease = await get(`/v1/leases/${build.lease}`).catch(() => undefined);
    for (const why of lease?.why ?? []) reasons.push(why.text);
  }
  put(
    parts.why,
    h(
      "div",
      { class: "note" },
      h("strong", {}, "Why is it waiting?"),
      reasons.length === 0
        ? "For its turn; no reason has been told yet."
        : h(
            "ul",
            {},
            [...new Set(reasons)].map((reason) => h("li", {}, reason)),
          ),
    ),
  );
}

/** Each step's bar is the time it took, up to the moment it was done. */
function showSteps() {
  const over = build.state === "reported";
  const last = timeline.at(-1);
  const nowMs = last ? last.atMs + (Date.now() - Date.parse(last.at)) : 0;
  const wholeMs = Math.max(1, over ? (last?.atMs ?? 1) : nowMs);
  const step = (name, detail, fromMs, toMs, now) => {
    const bar = h("i", { class: now ? "now" : "" });
    bar.style.left = `${Math.min(99.5, (100 * Math.max(0, fromMs)) / wholeMs)}%`;
    bar.style.width = `${(100 * Math.max(0, toMs - fromMs)) / wholeMs}%`;
    return h(
      "li",
      {},
      h(
        "span",
        { class: "name" },
        name.replaceAll("-", " "),
        detail ? h("small", {}, ` ${detail}`) : null,
      ),
      h("span", { class: "track" }, bar),
      h("span", { class: "took" }, span(toMs - fromMs)),
    );
  };
  const rows = timeline.map((entry) =>
    step(
      entry.step,
      [entry.machine, entry.step === "console-phase" ? entry.detail : ""].filter(Boolean).join(" "),
      entry.atMs - (entry.durationMs ?? 0),
      entry.atMs,
      false,
    ),
  );
  if (!over && last) rows.push(step(`${build.state} …`, "", last.atMs, nowMs, true));
  const whole = h("span", { class: "soft" }, `  ${span(wholeMs)} since the push`);
  put(
    parts.steps,
    h(
      "section",
      {},
      h("h2", {}, "Time line", last ? whole : null),
      rows.length === 0
        ? h("div", { class: "panel" }, h("p", { class: "nothing" }, "Nothing has happened yet."))
        : h("ol", { class: "steps panel" }, rows),
    ),
  );
}

function openConsole() {
  const path = `/v1/builds/${id}/console`;
  const view = screen({ title: "Console", raw: path, following: build.state !== "reported" });
  put(parts.console, h("section", {}, h("h2", {}, "Console"), view.element));
  void followConsole(path, view);
}

/** To its end; one that is not begun yet, or goes on after a restart, is looked at again. */
async function followConsole(path, view) {
  let seen = 0;
  for (;;) {
    const over = build.state === "reported";
    await follow(`${path}?follow&after=${seen}`, ({ event, data, id: seq }) => {
      if (event === "end") return "end";
      if (event !== "line") return undefined;
      seen = Number(seq);
      view.add(data, seen);
      return undefined;
    });
    if (over) break;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  }
  view.over();
  if (seen === 0) view.say("nothing was written");
}

function logPath(path) {
  return `/logs/${`${build.logsPath}/${path}`.split("/").map(encodeURIComponent).join("/")}`;
}

async function showFiles() {
  const files = await items(`/v1/builds/${id}/files`).catch(() => []);
  const isText = (path) => /\.(log|txt|json|jsonl|missing|yaml|conf)$/.test(path);
  put(
    parts.files,
    h(
      "section",
      {},
      h(
        "h2",
        {},
        "Files ",
        files.length === 0 ? null : h("a", { class: "soft", href: logPath("") }, build.logsPath),
      ),
      files.length === 0
        ? h(
            "div",
            { class: "panel" },
            h(
              "p",
              { class: "nothing" },
              build.state === "reported"
                ? "Nothing was archived."
                : "Files come when the job is over.",
            ),
          )
        : h(
            "ul",
            { class: "tree panel" },
            files.map((file) =>
              h(
                "li",
                {},
                h(
                  "a",
                  {
                    href: isText(file.path)
                      ? `#file=${encodeURIComponent(file.path)}`
                      : logPath(file.path),
                    "data-key": file.path,
                  },
                  file.path,
                ),
                h("span", { class: "num" }, size(file.bytes)),
              ),
            ),
          ),
    ),
  );
}

/** A file beside the build, opened by the address: `#file=rack/console.log&line=118`. */
async function openFile() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const path = wanted.get("file");
  const line = Number(wanted.get("line"));
  if (!path) {
    shownFile = undefined;
    return put(parts.file);
  }
  if (shownFile?.path !== path) {
    const view = screen({ title: path, raw: logPath(path), following: false });
    const close = h(
      "button",
      { onclick: () => history.pushState(null, "", location.pathname) ?? openFile() },
      "close",
    );
    view.element.querySelector(".bar").append(close);
    put(parts.file, h("section", {}, h("h2", {}, path), view.element));
    shownFile = { path, view };
    view.say("loading");
    try {
      const lines = (await getText(logPath(path))).replace(/\n$/, "").split("\n");
      // A long file: the part around the line that is wanted.
      const first = Math.max(0, Math.min((line || 1) - 2_500, lines.length - 5_000));
      for (const [n, text] of lines.slice(first, first + 5_000).entries())
        view.add(text, first + n + 1);
    } catch (error) {
      view.say(`it cannot be shown: ${error.message}`);
    }
  }
  if (line > 0) shownFile.view.mark(line);
  parts.file.scrollIntoView({ block: "start" });
}

async function showAttempts() {
  if (build.change === null) return;
  const all = await items(
    `/v1/builds?change=${build.change}&job=${encodeURIComponent(build.job)}&limit=50`,
  ).catch(() => []);
  const others = all.filter((other) => other.buildset === build.buildset);
  if (others.length < 2) return put(parts.attempts);
  put(
    parts.attempts,
    h("section", {}, h("h2", {}, "All attempts"), table(buildColumns, others.map(buildRow), "")),
  );
}
