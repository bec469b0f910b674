/**
 * Which of a holder's addresses a rack is opened to (H-2.6). An address inside the test network
 * is another machine of this host: only one that the host itself gave to a node which is ready may
 * be named, whoever asks and whatever the broker let through. Addresses outside of it say from
 * where a login may come, and open nothing. Pure.
 */
import { overlap, parseNetwork } from "../hypervisor/network-plan.ts";

export type AdmittedAddresses = {
  readonly admitted: readonly string[];
  readonly refused: readonly string[];
};

export function admitAddresses(
  addresses: readonly string[],
  cidr: string,
  nodes: ReadonlySet<string>,
): AdmittedAddresses {
  const network = parseNetwork(cidr);
  const isOther = (address: string): boolean => {
    const parsed = parseNetwork(address);
    // What is no IPv4 address at all, or a network, may not stand in a rule either.
    if (parsed === undefined) return !/^[0-9a-f:]+$/.test(address);
    return network === undefined || parsed.bits !== 32 || overlap(network, parsed);
  };
  const refused = addresses.filter((address) => !nodes.has(address) && isOther(address));
  return { admitted: addresses.filter((address) => !refused.includes(address)), refused };
}
