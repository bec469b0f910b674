/**
 * `ovs-vsctl` with its answers as JSON: bridges, ports, port numbers. All bridges are userspace
 * ones (`datapath_type=netdev`, H-15.2), so that no kernel module is needed. Names come from our
 * own record; each is checked once more before it is an argument.
 */
import { assert } from "../base/assert.ts";
import { run } from "../base/command.ts";

export type OpenVswitch = {
  /** Bridges and all `external_ids` of each. */
  bridges(): Promise<{ name: string; externalIds: Readonly<Record<string, string>> }[]>;
  /** Makes the bridge, or brings settings of an existing one up to date. */
  ensureBridge(name: string, settings: BridgeSettings): Promise<void>;
  removeBridge(name: string): Promise<void>;
  /** Names of its ports, without the bridge's own. */
  ports(bridge: string): Promise<string[]>;
  ensurePort(bridge: string, port: string): Promise<void>;
  /** OpenFlow numbers of all ports that exist in the switch; `-1` (not there) left out. */
  portNumbers(bridge: string): Promise<ReadonlyMap<string, number>>;
};

export type BridgeSettings = {
  /** `secure`: without flows nothing passes; `standalone`: it learns, like any switch. */
  readonly failMode: "secure" | "standalone";
  readonly mac?: string;
  readonly mtu: number;
  readonly externalIds: Readonly<Record<string, string>>;
};

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/;
const VALUE = /^[A-Za-z0-9:._-]+$/;

function named(name: string): string {
  assert(NAME.test(name), `not a name of a bridge or port: ${name}`);
  return name;
}

/** @param database `unix:/run/openvswitch/db.sock`, or where the switch's database listens */
export function openOpenVswitch(database: string): OpenVswitch {
  const vsctl = async (...args: string[]): Promise<string> => {
    const result = await run("ovs-vsctl", [`--db=${database}`, "--timeout=10", ...args]);
    return result.stdout;
  };
  const table = async (name: string, columns: string, ...records: string[]): Promise<Row[]> =>
    parseTable(
      await vsctl("--format=json", `--columns=${columns}`, "--if-exists", "list", name, ...records),
    );

  return {
    async bridges() {
      const rows = await table("Bridge", "name,external_ids");
      return rows.map((row) => ({
        name: String(row["name"]),
        externalIds: row["external_ids"] as Record<string, string>,
      }));
    },
    async ensureBridge(name, settings) {
      const bridge = named(name);
      const other =
        settings.mac === undefined ? [] : [`other_config:hwaddr=${quoted(settings.mac)}`];
      const marks = Object.entries(settings.externalIds).map(([key, value]) => {
        assert(VALUE.test(value), `not allowed in external_ids: ${value}`);
        return `external_ids:${key}=${quoted(value)}`;
      });
      const settled = ["datapath_type=netdev", `fail_mode=${settings.failMode}`];
      const ofBridge = ["set", "bridge", bridge, ...settled, ...other, ...marks];
      const ofDevice = ["set", "interface", bridge, `mtu_request=${settings.mtu}`];
      await vsctl("--may-exist", "add-br", bridge, "--", ...ofBridge, "--", ...ofDevice);
    },
    async removeBridge(name) {
      await vsctl("--if-exists", "del-br", named(name));
    },
    async ports(bridge) {
      const text = await vsctl("list-ports", named(bridge));
      return text.split("\n").filter((line) => line !== "");
    },
    async ensurePort(bridge, port) {
      await vsctl("--may-exist", "add-port", named(bridge), named(port));
    },
    async portNumbers(bridge) {
      const names = (await vsctl("list-ports", named(bridge))).split("\n").filter(Boolean);
      if (names.length === 0) return new Map();
      const rows = await table("Interface", "name,ofport", ...names);
      const numbers = rows.map((row) => [String(row["name"]), Number(row["ofport"])] as const);
      return new Map(numbers.filter(([, number]) => number > 0));
    },
  };
}

const quoted = (value: string): string => `"${value}"`;

type Row = Readonly<Record<string, unknown>>;

/** OVSDB's JSON (RFC 7047 §5.1): a map is ["map", [[key, value], …]], an empty set ["set", []]. */
export function parseTable(text: string): Row[] {
  if (text.trim() === "") return [];
  const { headings, data } = JSON.parse(text) as { headings: string[]; data: unknown[][] };
  return data.map((cells) =>
    Object.fromEntries(headings.map((heading, index) => [heading, plainValue(cells[index])])),
  );
}

function plainValue(cell: unknown): unknown {
  if (!Array.isArray(cell)) return cell;
  const [tag, items] = cell as [string, unknown[]];
  if (tag === "map") return Object.fromEntries(items as [string, unknown][]);
  if (tag === "set") return items.length === 0 ? undefined : items;
  return cell;
}
