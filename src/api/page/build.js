/**
 * One build: what came of it and why, when what happened, its console as it is written, its
 * files. Calls only the public API; what it shows, `rackyard build show` shows too.
 */
import {
  changeLink,
  follow,
  get,
  getStream,
  h,
  items,
  keepTimes,
  load,
  outcome,
  put,
  reasonsOf,
  utc,
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
/** Its first digits are enough to find it; from then on it is known whole. */
let id = location.pathname.split("/")[2];
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
  void follow("/v1/events?state=false", mine, showLive);
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
  build = await get(`/v1/builds/${id}`);
  id = build.id;
  timeline = await items(`/v1/builds/${id}/timeline`);
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
            quoted(one),
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

/** The line with those around it, numbered; alone where the log had no more. */
function quoted({ line, text, context }) {
  if (!context) return h("pre", {}, text);
  const rows = context.lines.map((row, n) => {
    const number = h("span", { class: "n", "aria-hidden": "true" }, `${context.from + n}`);
    return h("span", { class: context.from + n === line ? "row cause" : "row" }, number, row);
  });
  return h("pre", { class: "quoted" }, rows);
}

/** While it waits: for what, and how long about. */
async function showWhy() {
  if (!["waiting", "acquiring"].includes(build.state)) return put(parts.why);
  const [pipelines, lease] = await Promise.all([
    items("/v1/pipelines").catch(() => []),
    build.lease ? get(`/v1/leases/${build.lease}`).catch(() => undefined) : undefined,
  ]);
  const jobs = pipelines.flatMap((pipeline) => pipeline.items.flatMap((item) => item.jobs));
  const own = reasonsOf(jobs.find((job) => job.build === build.id)?.why);
  const reasons = lease?.why?.length > 0 ? lease.why.map((why) => why.text) : own;
  const start = lease?.state === "waiting" ? lease.predictedStart : undefined;
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
      start
        ? h(
            "p",
            {},
            "Expected start: ",
            when(start.likelyAt),
            ` (${utc(start.likelyAt).slice(11, 16)} UTC), by ${utc(start.latestAt).slice(11, 16)} UTC`,
          )
        : null,
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
  if (shownFile?.path !== path || (line > 0 && !shownFile.has(line))) {
    const view = screen({ title: path, raw: logPath(path), following: false });
    const close = h(
      "button",
      { onclick: () => history.pushState(null, "", location.pathname) ?? openFile() },
      "close",
    );
    view.element.querySelector(".bar").append(close);
    put(parts.file, h("section", {}, h("h2", {}, path), view.element));
    // A long file: the part around the line that is wanted, read no further than that.
    const from = Math.max(1, line - 2_500);
    const to = from + 4_999;
    shownFile = { path, view, has: (number) => number >= from && number <= to };
    view.say("loading");
    try {
      for await (const [number, text] of linesOf(logPath(path), to)) {
        if (number >= from) view.add(text, number);
      }
    } catch (error) {
      view.say(`it cannot be shown: ${error.message}`);
    }
  }
  if (line > 0) shownFile.view.mark(line);
  parts.file.scrollIntoView({ block: "start" });
}

/** Lines with their numbers up to one; the rest of the file is not fetched. */
async function* linesOf(path, last) {
  const body = await getStream(path);
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let number = 0;
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const pieces = `${rest}${value ?? ""}`.split("\n");
      rest = done ? "" : pieces.pop();
      if (done && pieces.at(-1) === "") pieces.pop();
      for (const text of pieces) {
        if (++number > last) return;
        yield [number, text];
      }
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
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
