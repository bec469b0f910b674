/**
 * `rackyard node|image|host …`: what the racks' hosts and the node pool have, through the API.
 */
import type { HostView } from "../model/testenv.ts";
import { wholeId } from "./arguments.ts";
import { agoText, bytesText } from "./output.ts";
import type { Output } from "./output.ts";
import type { Program, Verb } from "./program.ts";

export function addFleetCommands(program: Program): void {
  program.noun("node", "CI nodes, on which jobs run");
  program.add("node list", nodeList);
  program.add("node show", nodeShow);
  program.noun("image", "Images of CI nodes");
  program.add("image list", imageList);
  program.noun("host", "Hypervisors that carry racks");
  program.add("host list", hostList);
  program.add("host show", hostShow);
}

const nodeList: Verb = {
  summary: "CI nodes",
  example: "rackyard node list",
  async run({ client, out }) {
    const items = await (await client()).nodes.list();
    out.result({ items, next: null }, () =>
      out.table(
        ["node", "label", "state", "address", "build", "since", "detail"],
        items.map((node) => [
          node.id.slice(0, 8),
          node.label,
          stateText(out, node.state),
          node.address ?? "–",
          node.build?.slice(0, 8) ?? "–",
          agoText(node.readyAt ?? node.createdAt, Date.now()),
          node.detail ?? "",
        ]),
      ),
    );
  },
};

const nodeShow: Verb = {
  summary: "One node",
  example: "rackyard node show 0a1b2c3d",
  args: "<node>",
  async run({ client, out }, { args }) {
    const api = await client();
    const node = await api.nodes.get(await wholeId(args[0], "node", () => api.nodes.list()));
    out.result(node, () => pairs(out, node));
  },
};

const imageList: Verb = {
  summary: "Images of nodes, as the hosts built them",
  example: "rackyard image list",
  async run({ client, out }) {
    const items = await (await client()).images.list();
    out.result({ items, next: null }, () =>
      out.table(
        ["image", "host", "state", "size", "built", "digest", "detail"],
        items.map((image) => [
          image.name,
          image.host,
          stateText(out, image.state),
          image.sizeBytes === null ? "–" : bytesText(image.sizeBytes),
          agoText(image.builtAt, Date.now()),
          image.digest?.slice(0, 19) ?? "–",
          image.detail?.split("\n").at(-1) ?? "",
        ]),
      ),
    );
  },
};

const hostList: Verb = {
  summary: "Hosts and how they are",
  example: "rackyard host list",
  async run({ client, out }) {
    const items = await (await client()).hosts.list();
    out.result({ items, next: null }, () =>
      out.table(
        ["host", "state", "health", "accelerator", "load", "free memory", "seen", "problems"],
        items.map((host) => [
          host.name,
          stateText(out, host.state),
          stateText(out, host.health),
          host.accelerator,
          host.load === null ? "–" : host.load.toFixed(1),
          host.freeMemoryMiB === null ? "–" : `${host.freeMemoryMiB} MiB`,
          agoText(host.lastSeenAt, Date.now()),
          host.problems.join("; "),
        ]),
      ),
    );
  },
};

const hostShow: Verb = {
  summary: "One host, by its name or id",
  example: "rackyard host show here",
  args: "<host>",
  async run({ client, out }, { args }) {
    const host: HostView = await (await client()).hosts.get(args[0] ?? "");
    out.result(host, () => pairs(out, host));
  },
};

/** Every field a line; what has several parts, a line each. */
export function pairs(out: Output, record: object): string {
  const rows = Object.entries(record).filter(([, value]) => value !== null);
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows
    .flatMap(([name, value]) =>
      shown(value).map((line, n) => {
        const head = n === 0 ? name : "";
        return `${out.style("dim", head.padEnd(width))}  ${line}`;
      }),
    )
    .join("\n");
}

function shown(value: unknown): string[] {
  if (typeof value === "string") return value.trimEnd().split("\n");
  if (!Array.isArray(value)) return [inline(value)];
  if (value.length === 0) return ["none"];
  const plain = value.every((one) => typeof one !== "object");
  return plain ? [value.join(", ")] : value.map(inline);
}

/** `name te1-n0, power off`; a sentence for people says it all alone. */
function inline(value: unknown): string {
  if (value === null) return "–";
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map(inline).join(" ");
  if (typeof value !== "object") return typeof value === "string" ? value : JSON.stringify(value);
  if ("text" in value && typeof value.text === "string") return value.text;
  return Object.entries(value)
    .filter(([, part]) => part !== null)
    .map(([name, part]) => `${name} ${inline(part)}`)
    .join(", ");
}

export function stateText(out: Output, state: string): string {
  if (["ready", "connected", "ok", "active", "leased", "in-use"].includes(state)) {
    return out.style("green", state);
  }
  if (["failed", "faulty", "lost", "failing", "quarantined"].includes(state)) {
    return out.style("red", state);
  }
  return out.style("yellow", state);
}
