/**
 * What all pages share: elements without markup from strings, calls of the public API, its
 * event streams, and how times, spans and results are written. No framework, and no state of its
 * own: a token that a person types becomes a cookie for reading, which scripts cannot see.
 */

/** `h("a", { href }, "text", …)`. Text is text: nothing others wrote becomes markup. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined),
  );
  return element;
}

/** Replaces the content of `parent`, keeping the focus where the same thing is still there. */
export function put(parent, ...children) {
  const held = document.activeElement;
  const key = parent.contains(held) ? held.dataset?.key : undefined;
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (key) parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the server answered ${status}`);
    this.status = status;
    this.remedy = problem.remedy;
  }
}

async function request(path, accept, signal) {
  const response = await fetch(path, { headers: { accept }, signal, cache: "no-store" });
  if (response.ok) return response;
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // not the API's own answer
  }
  throw new Refused(response.status, problem);
}

export const get = async (path) => (await request(path, "application/json")).json();
export const items = async (path) => (await get(path)).items;
export const getStream = async (path) => (await request(path, "text/plain")).body;

/**
 * Reads a stream of events: `onEvent({ event, id, data })`. Comes back after 1 s to 15 s when it
 * breaks, from where it was; ends when `onEvent` returns "end". `onState("live" | "lost")`.
 */
export async function follow(path, onEvent, onState = () => {}) {
  let lastId;
  for (let tries = 0; ; tries++) {
    try {
      const headers = { accept: "text/event-stream" };
      if (lastId !== undefined) headers["last-event-id"] = lastId;
      const response = await fetch(path, { headers, cache: "no-store" });
      if (!response.ok) throw new Refused(response.status, {});
      onState("live");
      tries = 0;
      for await (const event of eventsOf(response.body)) {
        if (event.id !== undefined) lastId = event.id;
        if (onEvent(event) === "end") return;
      }
    } catch (error) {
      if (error instanceof Refused && error.status < 500) {
        onState("lost");
        return;
      }
    }
    onState("lost");
    const pauseMs = Math.min(15_000, 1_000 * 2 ** Math.min(tries, 4));
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const event = { event: "message", data: "" };
      const data = [];
      for (const line of text.slice(0, end).split("\n")) {
        const [, field, rest] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === "data") data.push(rest);
        else if (field === "event" || field === "id") event[field] = rest;
      }
      text = text.slice(end + 2);
      event.data = data.join("\n");
      if (data.length > 0) yield event;
    }
  }
}

/** Shows what is loaded; tells errors in words; asks for a token where one is needed. */
export async function load(main, work) {
  try {
    await work();
    return true;
  } catch (error) {
    if (error instanceof Refused && error.status === 401) askForToken(main);
    else if (error instanceof Refused && error.status === 404) {
      put(main, h("h1", {}, "Not here"), h("p", { class: "lead" }, `${error.message}.`), home());
    } else {
      const again = h("button", { onclick: () => location.reload() }, "Try again");
      const away = error instanceof TypeError && /fetch|network/i.test(error.message);
      const what = error instanceof Refused ? error.message : "The server does not answer";
      if (!(error instanceof Refused) && !away) throw error; // our own mistake: the console says
      put(
        main,
        h("h1", {}, "This could not be loaded"),
        h("p", { class: "lead" }, what),
        h("p", {}, again),
      );
    }
    return false;
  }
}

const home = () => h("p", {}, h("a", { href: "/" }, "All builds and racks"));

function askForToken(main) {
  const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const said = h("p", { class: "bad", role: "alert" });
  const form = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        const headers = { authorization: `Bearer ${field.value.trim()}` };
        const answer = await fetch("/v1/session", { method: "POST", headers });
        if (answer.ok) return location.reload();
        const problem = await answer.json().catch(() => ({}));
        said.textContent = `${problem.detail ?? `the server answered ${answer.status}`}.`;
        return undefined;
      },
    },
    h("p", {}, h("label", { for: "token" }, "Token (ry_…): "), field, " ", h("button", {}, "Show")),
    said,
  );
  put(
    main,
    h("h1", {}, "A token is needed"),
    h(
      "p",
      { class: "lead" },
      "Reading is open on this machine alone. An admin makes tokens: ",
      h("code", {}, "rackyard token create NAME --role reader"),
    ),
    form,
  );
  field.focus();
}

/** A job's reason may be several in one sentence: each is told once, whoever waits for it. */
export const reasonsOf = (why) => [...new Set((why ?? "").split("; ").filter(Boolean))];

/** Calls `work` soon, once for many wishes, and never twice at the same time. */
export function soon(work, waitMs = 250) {
  let timer;
  let running = false;
  let again = false;
  const go = async () => {
    timer = undefined;
    running = true;
    try {
      await work();
    } catch {
      // the next event is the next try
    }
    running = false;
    if (again) {
      again = false;
      wish();
    }
  };
  const wish = () => {
    if (running) again = true;
    else timer ??= setTimeout(go, waitMs);
  };
  return wish;
}

export function showLive(state) {
  const live = document.getElementById("live");
  live.dataset.state = state;
  live.textContent =
    state === "live" ? "live" : state === "lost" ? "connection lost, trying again" : state;
}

// --- words

const goods = ["SUCCESS", "ready", "MERGED", "connected", "ok"];
const bads = [
  ..."FAILURE TIMED_OUT RETRY_LIMIT POST_FAILURE NODE_FAILURE DISK_FULL MERGE_CONFLICT".split(" "),
  ..."CONFIG_ERROR TE_UNAVAILABLE TE_LOST failed faulty quarantined lost failing".split(" "),
];
const waits = ["waiting", "acquiring", "suspect", "resetting", "degraded", "requested", "RETRY"];
const flats = [
  "CANCELED",
  "ABORTED",
  "SKIPPED",
  "ABANDONED",
  "offline",
  "deleting",
  "gone",
  "used",
  "reported",
];

export function word(text, big = false) {
  const tone = goods.includes(text)
    ? "good"
    : bads.includes(text)
      ? "bad"
      : waits.includes(text)
        ? "wait"
        : flats.includes(text)
          ? ""
          : "busy";
  return h("span", { class: `word ${tone} ${big ? "big" : ""}` }, text.replaceAll("_", " "));
}

export const outcome = (build, big) => word(build.result ?? build.state, big);

export function span(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.round((seconds % 3_600) / 60)} min`;
}

/** `3 min ago`, with the whole time on hover. */
export function when(at) {
  if (!at) return h("span", { class: "soft" }, "–");
  return h("time", { datetime: at, title: utc(at) }, ago(at));
}

/** `2026-12-01 10:38:36 UTC`: one zone on pages, in commands and in the program's sentences. */
export function utc(at) {
  return `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function ago(at) {
  const seconds = (Date.now() - Date.parse(at)) / 1_000;
  const size = Math.abs(seconds);
  const text =
    size < 45
      ? `${Math.round(size)} s`
      : size < 5_400
        ? `${Math.round(size / 60)} min`
        : size < 172_800
          ? `${Math.round(size / 3_600)} h`
          : `${Math.round(size / 86_400)} d`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

/** Times on the page grow old: keep them true. */
export function keepTimes() {
  setInterval(() => {
    for (const time of document.querySelectorAll("time[title]"))
      time.textContent = ago(time.dateTime);
  }, 15_000);
}

export function size(bytes) {
  if (bytes < 1_024) return `${bytes} B`;
  if (bytes < 1_048_576) return `${(bytes / 1_024).toFixed(1)} KiB`;
  return `${(bytes / 1_048_576).toFixed(1)} MiB`;
}

export const short = (id) => id.slice(0, 8);
export const buildLink = (build, text) =>
  h("a", { href: `/builds/${short(build.id)}`, "data-key": build.id }, text ?? short(build.id));
export const changeLink = (number, patchset) =>
  h("a", { href: `/changes/${number}` }, patchset ? `${number},${patchset}` : String(number));

export function table(columns, rows, nothing) {
  if (rows.length === 0) return h("div", { class: "panel" }, h("p", { class: "nothing" }, nothing));
  const classes = columns.map((column) => column.class);
  return h(
    "div",
    { class: "panel scroll" },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map((column) => h("th", { scope: "col", class: column.class }, column.name)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            row.map((cell, n) => h("td", { class: classes[n] }, cell)),
          ),
        ),
      ),
    ),
  );
}

export const buildColumns = [
  { name: "Build" },
  { name: "Change" },
  { name: "Job" },
  { name: "Result" },
  { name: "Attempt", class: "num wide" },
  { name: "Took", class: "num wide" },
  { name: "When", class: "tight wide" },
];

export function buildRow(build) {
  const from = build.startedAt ? Date.parse(build.startedAt) : undefined;
  const to = build.endedAt ? Date.parse(build.endedAt) : Date.now();
  return [
    h("span", { class: "mono" }, buildLink(build)),
    build.change === null ? "–" : changeLink(build.change, build.patchset),
    h("span", {}, build.job, build.voting ? null : h("span", { class: "soft" }, " (non-voting)")),
    outcome(build),
    `${build.attempt}/${build.maxAttempts}`,
    from === undefined ? "–" : span(to - from),
    when(build.endedAt ?? build.startedAt ?? build.createdAt),
  ];
}

export const changeColumns = [
  { name: "Change", class: "tight" },
  { name: "Subject" },
  { name: "Project", class: "wide" },
  { name: "By", class: "wide" },
  { name: "Vote", class: "tight" },
];

export function changeRow(change) {
  const verified = change.votes.find((vote) => vote.label === "Verified" && vote.value !== 0);
  const sign = verified && `${verified.value > 0 ? "+" : "−"}${Math.abs(verified.value)}`;
  const label = h("span", { class: "wide-inline" }, "Verified ");
  return [
    changeLink(change.number, change.patchset),
    change.subject,
    change.project,
    change.owner,
    verified
      ? h("span", { class: `word ${verified.value > 0 ? "good" : "bad"}` }, label, sign)
      : word(change.status === "NEW" ? "open" : change.status),
  ];
}
