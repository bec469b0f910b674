/**
 * The cell's way out (surface.md §9): a veth whose outer end has the test network's address .2,
 * and the choice of that network (H-2.2). Cells made at the same moment take turns by a lock of
 * the machine, held until the chosen network has its route.
 */
import { createHash } from "node:crypto";
import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../base/command.ts";
import { fail, isRackyardError } from "../base/errors.ts";
import { lockFile } from "../base/lock.ts";
import { limits } from "../base/limits.ts";
import { retry } from "../base/retry.ts";
import { MACHINE_RUN } from "./cell-paths.ts";
import type { CellPlaces } from "./cell-paths.ts";
import { linkFacts } from "./network/links.ts";
import { addressIn, freeNetwork, routeInTheWay } from "./network-plan.ts";
import type { Route } from "./network-plan.ts";

/** The inner end of the veth, a port of br-ctlplane. */
export const INNER_LINK = "out";

/** MAC addresses of the cell's own ends, the same for ever: the switch's flows name them. */
export function ownMac(places: CellPlaces, end: "host" | "machine" | "probe"): string {
  const hash = createHash("sha256").update(`${places.id}/${end}`).digest();
  return [0x02, ...hash.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** Chooses the network, makes the veth, gives its outer end the address. Returns the network. */
export async function makeWayOut(
  places: CellPlaces,
  options: { readonly cidr: string; readonly mtu: number; readonly kept: string | undefined },
): Promise<string> {
  const lock = join(MACHINE_RUN, "network.lock");
  await using _held = await retry(() => lockFile(lock, "the choice of a test network"), {
    tries: 40,
    firstMs: limits.networkTurnFirstMs,
    lastMs: limits.networkTurnLastMs,
    worth: (error) => isRackyardError(error, "state-in-use"),
  });
  const cidr = await choose(places, options);
  if (!(await linkExists(places.link))) {
    const outer = [places.link, "address", ownMac(places, "machine")];
    const inner = ["peer", "name", INNER_LINK, "netns", places.netns];
    await run("ip", ["link", "add", ...outer, "type", "veth", ...inner]);
  }
  await setOuterEnd(places.link, addressIn(cidr, 2), options.mtu);
  return cidr;
}

/** Left alone where it is right: connections and people's routes go over it. */
async function setOuterEnd(link: string, address: string, mtu: number): Promise<void> {
  const now = await linkFacts(link);
  const [own, ...others] = now?.addresses ?? [];
  const isRight = own?.local === address && own.prefixlen === 24 && others.length === 0;
  if (isRight && now?.up === true && now.mtu === mtu) return;
  // The machine's services must not be reached by its link-local address.
  await writeFile(`/proc/sys/net/ipv6/conf/${link}/disable_ipv6`, "1").catch(() => undefined);
  await run("ip", ["link", "set", link, "mtu", String(mtu)]);
  await run("ip", ["addr", "flush", "dev", link]);
  await run("ip", ["addr", "add", `${address}/24`, "dev", link]);
  await run("ip", ["link", "set", link, "up"]);
}

async function choose(
  places: CellPlaces,
  options: { readonly cidr: string; readonly kept: string | undefined },
): Promise<string> {
  const routes = await machineRoutes();
  if (options.cidr !== "auto") {
    const taken = routeInTheWay(options.cidr, routes, places.link);
    if (taken === undefined) return options.cidr;
    return fail(
      "port-taken",
      `testNetwork.cidr ${options.cidr} is in use: route ${taken.dst} by ${taken.dev ?? "nothing"}`,
      { remedy: "choose another network, or auto" },
    );
  }
  const free = freeNetwork(routes, places.link, options.kept);
  return (
    free ??
    fail("port-taken", "none of 10.99.0.0/24 to 10.99.255.0/24 is free on this machine", {
      remedy: "set testNetwork.cidr to a free /24 network",
    })
  );
}

async function machineRoutes(): Promise<Route[]> {
  const { stdout } = await run("ip", ["-j", "-4", "route", "show", "table", "all"]);
  return JSON.parse(stdout || "[]") as Route[];
}

export async function linkExists(name: string): Promise<boolean> {
  return access(`/sys/class/net/${name}`).then(
    () => true,
    () => false,
  );
}
