/**
 * The yard at a glance: what runs and what waits for what, the racks and who holds them, the
 * nodes, and what was built lately. Calls only the public API.
 */
import {
  buildColumns,
  buildRow,
  changeColumns,
  changeLink,
  changeRow,
  follow,
  h,
  items,
  keepTimes,
  load,
  put,
  reasonsOf,
  short,
  showLive,
  soon,
  table,
  utc,
  when,
  word,
} from "./parts.js";

const main = document.getElementById("main");

const parts = {
  pipelines: () => items("/v1/pipelines"),
  racks: () => items("/v1/testenvs"),
  leases: async () => {
    const states = ["waiting", "preparing", "active", "ending"];
    const lists = states.map((state) => items(`/v1/leases?state=${state}&limit=100`));
    return (await Promise.all(lists)).flat();
  },
  nodes: () => items("/v1/nodes"),
  builds: () => items("/v1/builds?limit=20"),
  changes: () => items("/v1/changes?limit=10"),
  hosts: () => items("/v1/hosts"),
};
/** What an event of a topic may have changed on this page; the rest is not read again. */
const touched = {
  change: ["changes"],
  item: ["pipelines"],
  build: ["pipelines", "builds"],
  lease: ["leases"],
  testenv: ["racks"],
  host: ["hosts"],
  node: ["nodes"],
};
const known = {};
let stale = new Set(Object.keys(parts));

async function read() {
  const wanted = [...stale];
  stale = new Set();
  try {
    const found = await Promise.all(wanted.map((name) => parts[name]()));
    wanted.forEach((name, n) => (known[name] = found[n]));
  } catch (error) {
    for (const name of wanted) stale.add(name); // the next try reads them too
    throw error;
  }
  show(known);
}
if (await load(main, read)) {
  const again = soon(read, 500);
  const all = () => {
    stale = new Set(Object.keys(parts));
    again();
  };
  const heard = ({ event }) => {
    if (!touched[event]) return all(); // resync
    for (const name of touched[event]) stale.add(name);
    again();
  };
  void follow("/v1/events?state=false", heard, showLive);
  setInterval(all, 30_000);
  keepTimes();
}

function show({ pipelines, racks, leases, nodes, builds, changes, hosts }) {
  const waiting = leases.filter((lease) => lease.state === "waiting");
  const troubles = hosts.flatMap((host) =>
    host.state === "connected"
      ? host.problems.map((text) => `${host.name}: ${text}`)
      : [`${host.name} is ${host.state}`],
  );
  put(
    main,
    h("h1", {}, "The yard"),
    h("p", { class: "lead" }, summary(racks, waiting, pipelines)),
    troubles.length > 0
      ? h(
          "div",
          { class: "note bad" },
          h("strong", {}, "Hosts need a look"),
          h(
            "ul",
            {},
            troubles.map((text) => h("li", {}, text)),
          ),
        )
      : null,
    h("section", {}, h("h2", {}, "On the way"), onTheWay(pipelines, waiting)),
    waiting.length > 0
      ? h("section", {}, h("h2", {}, "Why is it waiting?"), waitingFor(waiting))
      : null,
    h(
      "div",
      { class: "pair" },
      h("section", {}, h("h2", {}, listed("racks", "Racks")), racksTable(racks, leases)),
      h("section", {}, h("h2", {}, "CI nodes"), nodesTable(nodes)),
    ),
    h(
      "section",
      {},
      h("h2", {}, listed("builds", "Latest builds")),
      table(
        buildColumns,
        builds.map(buildRow),
        "None yet. Push a change and its checks appear here.",
      ),
    ),
    h("section", {}, h("h2", {}, listed("changes", "Latest changes")), changesTable(changes)),
  );
}

/** A heading that leads to the whole list. */
function listed(list, title) {
  return h("a", { class: "plain", href: `/${list}` }, title);
}

function summary(racks, waiting, pipelines) {
  const ready = racks.filter((rack) => rack.state === "ready" && !rack.draining).length;
  const running = pipelines.flatMap((pipeline) => pipeline.items).length;
  const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;
  return [
    running === 0
      ? "Nothing is being checked"
      : `${count(running, "change is", "changes are")} being checked`,
    `${ready} of ${count(racks.length, "rack", "racks")} ready`,
    waiting.length === 0
      ? "nobody waits for one"
      : count(waiting.length, "request waits", "requests wait"),
  ].join(", ");
}

/** What the leases below say is not said again at each job. */
function onTheWay(pipelines, waiting) {
  const below = new Set(waiting.flatMap((lease) => (lease.why ?? []).map((why) => why.text)));
  const reason = (why) => {
    const all = reasonsOf(why);
    const own = all.filter((text) => !below.has(text));
    return own.length < all.length ? ["waits for a rack", ...own].join("; ") : own.join("; ");
  };
  const rows = pipelines.flatMap((pipeline) =>
    pipeline.items.flatMap((item) =>
      item.jobs.map((job) => [
        changeLink(item.change, item.patchset),
        item.project,
        pipeline.name,
        job.build
          ? h("a", { href: `/builds/${short(job.build)}`, "data-key": job.build }, job.name)
          : job.name,
        word(job.result ?? job.state),
        h("span", { class: "soft" }, reason(job.why)),
      ]),
    ),
  );
  const columns = [
    { name: "Change" },
    { name: "Project" },
    { name: "Pipeline", class: "wide" },
    { name: "Job", class: "tight" },
    { name: "State" },
    { name: "Why", class: "wide" },
  ];
  return table(columns, rows, "No change is on its way.");
}

function waitingFor(leases) {
  return h(
    "ul",
    { class: "talk panel" },
    leases.map((lease) =>
      h(
        "li",
        {},
        h("strong", {}, lease.holder.name),
        h("span", { class: "soft" }, lease.place ? ` place ${lease.place}, asked ` : " asked "),
        when(lease.createdAt),
        (lease.why ?? []).map((why) => h("div", {}, why.text)),
        lease.predictedStart
          ? h("div", { class: "soft" }, "expected start ", when(lease.predictedStart.likelyAt))
          : null,
      ),
    ),
  );
}

function racksTable(racks, leases) {
  const holder = new Map(leases.flatMap((lease) => lease.testenvs.map((te) => [te.id, lease])));
  const rows = racks.map((rack) => {
    const lease = holder.get(rack.id);
    return [
      h("strong", {}, rack.id),
      h("span", {}, word(rack.state), rack.draining ? " draining" : ""),
      lease
        ? [lease.holder.name, lease.expiresAt ? [", until ", utc(lease.expiresAt).slice(11)] : ""]
        : h("span", { class: "soft" }, rack.detail ?? (rack.state === "ready" ? "free" : "–")),
    ];
  });
  return table(
    [{ name: "Rack" }, { name: "State" }, { name: "Held by" }],
    rows,
    "None yet: no host has reported any.",
  );
}

function nodesTable(nodes) {
  const rows = nodes.map((node) => [
    h("span", { class: "mono" }, short(node.id)),
    node.label,
    word(node.state),
    node.build
      ? h("a", { href: `/builds/${short(node.build)}`, class: "mono" }, short(node.build))
      : (node.detail ?? node.address ?? ""),
  ]);
  return table(
    [{ name: "Node" }, { name: "Label" }, { name: "State" }, { name: "Build or address" }],
    rows,
    "None: the first one comes when its image is built.",
  );
}

function changesTable(changes) {
  return table(changeColumns, changes.map(changeRow), "None yet.");
}
