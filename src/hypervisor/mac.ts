/**
 * MAC addresses of racks' machines and CI nodes (te-host.md §0, H-2.6a). Drawn from a key that the
 * host drew once and keeps: the same for ever, and to whoever knows names and ids only, random; a
 * MAC that could be computed from what readers see would let others speak for a machine that is
 * off. Pure.
 */
import { createHmac } from "node:crypto";

/** First octet 00, as 2014's readers want it; `words` name the NIC on this host. */
export function macAddress(key: string, ...words: readonly (string | number)[]): string {
  const digest = createHmac("sha256", key).update(words.join("/")).digest();
  return ["00", ...digest.subarray(0, 5).toString("hex").match(/../g)!].join(":");
}
