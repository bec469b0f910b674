/**
 * Lists of changes, builds, racks and leases: filters and page stand in the address, so that a
 * list can be sent to somebody. Calls only the public API.
 */
import {
  buildColumns,
  buildRow,
  changeColumns,
  changeRow,
  get,
  h,
  keepTimes,
  load,
  put,
  short,
  table,
  when,
  word,
} from "./parts.js";

const buildResults = [
  ..."SUCCESS FAILURE TIMED_OUT POST_FAILURE RETRY RETRY_LIMIT NODE_FAILURE DISK_FULL".split(" "),
  ..."MERGE_CONFLICT CONFIG_ERROR TE_UNAVAILABLE TE_LOST CANCELED ABORTED SKIPPED".split(" "),
];
const buildStates =
  "waiting acquiring preparing running collecting releasing archiving reported".split(" ");

const lists = {
  changes: {
    title: "Changes",
    filters: [
      { name: "project", label: "Project" },
      { name: "status", label: "Status", of: ["NEW", "MERGED", "ABANDONED"] },
      { name: "owner", label: "Owner" },
    ],
    columns: changeColumns,
    row: changeRow,
    nothing: "No change matches.",
  },
  builds: {
    title: "Builds",
    filters: [
      { name: "project", label: "Project" },
      { name: "job", label: "Job" },
      { name: "pipeline", label: "Pipeline" },
      { name: "change", label: "Change", type: "number" },
      { name: "state", label: "State", of: buildStates },
      { name: "result", label: "Result", of: buildResults },
    ],
    columns: buildColumns,
    row: buildRow,
    nothing: "No build matches.",
  },
  racks: {
    title: "Racks",
    path: "/v1/testenvs",
    filters: [],
    columns: [
      { name: "Rack" },
      { name: "State" },
      { name: "Host" },
      { name: "Kind", class: "wide" },
      { name: "Epoch", class: "num wide" },
      { name: "Detail" },
    ],
    row: (rack) => [
      h("strong", {}, rack.id),
      [word(rack.state), rack.draining ? " draining" : ""],
      rack.host,
      rack.kind,
      rack.epoch,
      rack.detail ??
        (rack.lease
          ? h("a", { href: `/leases?te=${encodeURIComponent(rack.id)}` }, "its leases")
          : h("span", { class: "soft" }, "–")),
    ],
    nothing: "No host has reported a rack yet.",
  },
  leases: {
    title: "Leases",
    filters: [
      { name: "state", label: "State", of: ["waiting", "preparing", "active", "ending", "ended"] },
      { name: "te", label: "Rack" },
      { name: "holder", label: "Holder" },
      { name: "project", label: "Project" },
    ],
    columns: [
      { name: "Lease" },
      { name: "Holder" },
      { name: "Rack" },
      { name: "State" },
      { name: "Ended as", class: "wide" },
      { name: "Asked", class: "tight wide" },
    ],
    row: (lease) => [
      h("span", { class: "mono" }, short(lease.id)),
      holder(lease),
      lease.testenvs.map((te) => te.id).join(", ") || h("span", { class: "soft" }, "–"),
      word(lease.state),
      lease.reason ?? h("span", { class: "soft" }, "–"),
      when(lease.createdAt),
    ],
    nothing: "No lease matches.",
  },
};

const main = document.getElementById("main");
const name = location.pathname.split("/")[1];
const list = lists[name];
const wanted = new URLSearchParams(location.search);

document.title = `${list.title} · rackyard`;
document.querySelector(`nav a[href="/${name}"]`)?.setAttribute("aria-current", "page");
if (await load(main, show)) keepTimes();

async function show() {
  const query = new URLSearchParams();
  for (const { name: key } of list.filters) if (wanted.get(key)) query.set(key, wanted.get(key));
  if (list.filters.length > 0) {
    query.set("limit", "50");
    if (wanted.get("cursor")) query.set("cursor", wanted.get("cursor"));
  }
  const text = query.toString();
  const page = await get(`${list.path ?? `/v1/${name}`}${text ? `?${text}` : ""}`);
  put(
    main,
    h("h1", {}, list.title),
    list.filters.length > 0 ? filters() : null,
    h("section", {}, table(list.columns, page.items.map(list.row), list.nothing)),
    turning(page.next),
  );
}

function filters() {
  const fields = list.filters.map((filter) => {
    const id = `filter-${filter.name}`;
    const value = wanted.get(filter.name) ?? "";
    const options = ["", ...(filter.of ?? [])].map((one) =>
      h("option", { value: one, selected: one === value }, one === "" ? "any" : one),
    );
    const field = filter.of
      ? h("select", { id, name: filter.name, onchange: apply }, options)
      : h("input", { id, name: filter.name, type: filter.type ?? "search", min: 1, value });
    return h("div", {}, h("label", { for: id }, filter.label), field);
  });
  const clear = list.filters.some((one) => wanted.get(one.name))
    ? h("a", { href: location.pathname }, "clear")
    : null;
  const submit = (event) => {
    event.preventDefault();
    apply();
  };
  const form = h("form", { class: "filters", onsubmit: submit }, fields);
  form.append(h("button", {}, "Show"), ...(clear ? [clear] : []));
  return form;
}

function apply() {
  const query = new URLSearchParams();
  for (const field of main.querySelectorAll(".filters [name]")) {
    if (field.value.trim() !== "") query.set(field.name, field.value.trim());
  }
  location.search = query.toString();
}

/** Cursors lead forward only; the browser's own back button leads back. */
function turning(next) {
  const links = [];
  const without = new URLSearchParams(wanted);
  without.delete("cursor");
  if (wanted.get("cursor")) {
    links.push(h("a", { href: `?${without}` }, "Newest"));
  }
  if (next) {
    without.set("cursor", next);
    links.push(h("a", { href: `?${without}`, rel: "next" }, "Older"));
  }
  return links.length > 0 ? h("nav", { class: "turn", "aria-label": "Pages" }, links) : null;
}

/** A holder's own address is shown as a link only where it is an http address. */
function holder(lease) {
  const url = lease.holder.url ? URL.parse(lease.holder.url) : null;
  const safe = url && /^https?:$/.test(url.protocol);
  return safe
    ? h("a", { href: url.href, rel: "noreferrer" }, lease.holder.name)
    : lease.holder.name;
}
