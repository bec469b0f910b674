/**
 * Which test network a cell takes (H-2.2): the first 10.99.k.0/24 that no route of the machine
 * covers, and the addresses in it. Pure; the lock around choosing is the caller's.
 */
import { assert } from "../base/assert.ts";

/** A route as `ip -j -4 route show table all` tells it. */
export type Route = { readonly dst: string; readonly dev?: string | undefined };

export type Network = { readonly base: number; readonly bits: number };

/** `10.99.0.0/24`, `10.99.0.2` (a host); undefined for `default` and what is no IPv4. */
export function parseNetwork(text: string): Network | undefined {
  const [, a, b, c, d, bits] = /^(\d+)\.(\d+)\.(\d+)\.(\d+)(?:\/(\d+))?$/.exec(text) ?? [];
  const octets = [a, b, c, d].map(Number);
  if (a === undefined || octets.some((octet) => octet > 255)) return undefined;
  const base = octets.reduce((sum, octet) => sum * 256 + octet, 0);
  return { base, bits: bits === undefined ? 32 : Number(bits) };
}

export function overlap(one: Network, other: Network): boolean {
  const bits = Math.min(one.bits, other.bits);
  if (bits === 0) return false; // the default route covers nothing of its own
  const size = 2 ** (32 - bits);
  return Math.floor(one.base / size) === Math.floor(other.base / size);
}

/** The route that is in a network's way, not counting those of the cell's own link. */
export function routeInTheWay(
  cidr: string,
  routes: readonly Route[],
  ownLink: string,
): Route | undefined {
  const wanted = parseNetwork(cidr);
  assert(wanted !== undefined, `not a network: ${cidr}`);
  return routes.find((route) => {
    const covered = parseNetwork(route.dst);
    return route.dev !== ownLink && covered !== undefined && overlap(wanted, covered);
  });
}

/** The kept network if it is still free, else the first free one; undefined: all are taken. */
export function freeNetwork(
  routes: readonly Route[],
  ownLink: string,
  kept: string | undefined,
): string | undefined {
  const all = Array.from({ length: 256 }, (_each, k) => `10.99.${k}.0/24`);
  return [...(kept === undefined ? [] : [kept]), ...all].find(
    (cidr) => routeInTheWay(cidr, routes, ownLink) === undefined,
  );
}

/** Address number `n` of a /24. */
export function addressIn(cidr: string, n: number): string {
  const [, network] = /^(\d+\.\d+\.\d+)\.0\/24$/.exec(cidr) ?? [];
  assert(network !== undefined && n >= 1 && n <= 254, `no address ${n} in ${cidr}`);
  return `${network}.${n}`;
}
