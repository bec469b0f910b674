/**
 * From where a holder may say that it reaches its seed (lease.md §4): an address inside a test
 * network is somebody's rack or node, and a rule of the switch follows from it. Only what our own
 * scheduler paired may be named there.
 */
import type { Refusal, RequestFault } from "./ledger-event.ts";
import type { Ledger } from "./ledger-state.ts";

export function refuseAddresses(
  { hosts }: Pick<Ledger, "hosts">,
  addresses: readonly string[],
): Refusal | null {
  const faults: RequestFault[] = [];
  for (const [index, address] of addresses.entries()) {
    for (const { facts } of hosts.values()) {
      const network = facts.testNetwork;
      if (!network || !isInside(address, network.cidr)) continue;
      faults.push({
        pointer: `/holder/addresses/${index}`,
        code: "address-not-yours",
        detail: `${address} is inside the test network ${network.cidr} of ${facts.name}`,
        remedy: "leave it out: a build's node is named by the scheduler, its pair",
      });
      break;
    }
  }
  if (faults.length === 0) return null;
  const detail = faults.map((fault) => fault.detail).join("; ");
  return { code: "address-not-yours", detail, faults };
}

/** IPv4 in CIDR form (RFC 4632 §3.1). */
export function isInside(address: string, cidr: string): boolean {
  const [base = "", length = ""] = cidr.split("/");
  const shift = 2 ** (32 - Number(length));
  const [one, other] = [numberOf(address), numberOf(base)];
  return (
    one !== undefined &&
    other !== undefined &&
    Math.floor(one / shift) === Math.floor(other / shift)
  );
}

function numberOf(address: string): number | undefined {
  const parts = address.split(".").map(Number);
  if (parts.length !== 4 || parts.some((part) => !(part >= 0 && part <= 255))) return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}
