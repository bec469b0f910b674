/**
 * What a broker wants of a rack, less the holder's addresses that this host does not admit: it
 * opens a rack to nothing inside its test network but its own ready nodes.
 */
import type { Log } from "../../base/log.ts";
import type { Wanted } from "../../model/session.ts";
import type { NodeReport } from "../../nodehost/nodes.ts";
import { admitAddresses } from "../../testenv/holder-addresses.ts";

export function admittedOnly(
  wanted: Wanted,
  host: { readonly cidr: string; readonly nodes: readonly NodeReport[]; readonly log: Log },
): Wanted {
  if (wanted.lease === null) return wanted;
  const ready = host.nodes.filter(({ state }) => state === "ready");
  const given = new Set(ready.flatMap(({ address }) => address ?? []));
  const { id, holderAddresses } = wanted.lease;
  const { admitted, refused } = admitAddresses(holderAddresses, host.cidr, given);
  if (refused.length === 0) return wanted;
  const why = "addresses that are no node's are not opened to the rack";
  host.log.warn({ lease: id, testenv: wanted.testenv, refused }, why);
  return { ...wanted, lease: { ...wanted.lease, holderAddresses: [...admitted] } };
}
