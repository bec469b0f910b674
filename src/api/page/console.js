/**
 * Text of machines and jobs on the dark screen: lines with number and time, colours of ANSI
 * sequences (all other sequences are dropped), the newest in sight while one follows, one line
 * marked. Keeps at most so many lines on the page; the rest is a link away.
 */
/* oxlint-disable no-control-regex -- what terminals send */
import { h } from "./parts.js";

const kept = 5_000;

export function screen({ title, raw, following }) {
  const lines = h("div", {
    class: following ? "lines" : "lines short",
    tabindex: "0",
    role: "log",
    "aria-label": title,
  });
  const count = h("span", {}, "no lines yet");
  const box = h("input", { type: "checkbox", checked: true });
  const follow = h("label", {}, box, "follow");
  const bar = h(
    "div",
    { class: "bar" },
    h("span", {}, title),
    count,
    h("span", { class: "end" }),
    following ? follow : null,
    h("a", { href: raw }, "as text"),
  );
  const element = h("div", { class: "screen" }, bar, lines);
  let total = 0;
  let waiting = [];
  let frame;

  // Whoever scrolls up wants to read; at the end again, the newest comes into sight again.
  lines.addEventListener("scroll", () => {
    if (following) box.checked = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  });
  box.addEventListener("change", () => {
    if (box.checked) lines.scrollTop = lines.scrollHeight;
  });

  const flush = () => {
    frame = undefined;
    const stay = following && box.checked;
    lines.append(...waiting.slice(-kept));
    waiting = [];
    while (lines.childElementCount > kept) lines.firstElementChild.remove();
    const dropped = total - lines.childElementCount;
    count.textContent = `${total} ${total === 1 ? "line" : "lines"}${dropped > 0 ? `, the last ${kept} shown` : ""}`;
    if (stay) lines.scrollTop = lines.scrollHeight;
  };

  return {
    element,
    add(text, number = total + 1) {
      total = Math.max(total + 1, number);
      waiting.push(lineOf(text, number));
      frame ??= requestAnimationFrame(flush);
    },
    say(text) {
      count.textContent = text;
    },
    over() {
      follow.remove();
      lines.classList.add("short");
    },
    mark(number) {
      if (frame) {
        cancelAnimationFrame(frame);
        flush();
      }
      lines.querySelector(".hit")?.classList.remove("hit");
      const line = lines.querySelector(`[data-n="${number}"]`);
      line?.classList.add("hit");
      line?.scrollIntoView({ block: "center" });
    },
  };
}

/** `2030-01-02 03:04:05.678 | text`: the time of day is enough to read. */
const stamp = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d\.\d)(\d*)Z? (?:\| )?(.*)$/s;

function lineOf(text, number) {
  const found = stamp.exec(text);
  return h(
    "div",
    { "data-n": number },
    h("span", { class: "n", "aria-hidden": "true" }, number),
    found ? h("time", { datetime: `${found[1]}T${found[2]}${found[3]}Z` }, found[2]) : null,
    h("span", { class: "t" }, coloured(found ? found[4] : text)),
  );
}

const sequence =
  /\u001b(?:\[([0-9;?]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])|[\u0000-\u0008\u000b-\u001f\u007f]/g;

function coloured(text) {
  const parts = [];
  let from = 0;
  let colour = "";
  let bold = false;
  const push = (piece) => {
    if (piece === "") return;
    const classes = `${colour} ${bold ? "ab" : ""}`.trim();
    parts.push(classes ? h("span", { class: classes }, piece) : piece);
  };
  for (const match of text.matchAll(sequence)) {
    push(text.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] !== "m") continue;
    for (const code of match[1].split(";").map(Number)) {
      if (code === 0) [colour, bold] = ["", false];
      else if (code === 1) bold = true;
      else if (code === 39) colour = "";
      else if ((code >= 31 && code <= 36) || (code >= 91 && code <= 96)) colour = `a${code % 10}`;
    }
  }
  push(text.slice(from));
  return parts;
}
