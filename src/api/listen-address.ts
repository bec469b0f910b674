/**
 * Addresses to listen on, as text: their parts, and which of them may be listened on. Pure.
 */

export function isLoopback(address: string): boolean {
  const plain = address.replace(/^::ffff:/, "");
  return plain === "::1" || /^127(\.[0-9]{1,3}){3}$/.test(plain);
}

/** `127.0.0.1:7225`, `[::1]:7225`. */
export function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, "$1");
  return { host, port: Number(address.slice(colon + 1)) };
}

export const openListenerRemedy =
  "listen on 127.0.0.1 behind a proxy with TLS, or spell out server.insecure: true";

/** Why an address is refused; undefined: it may be listened on. */
export function listenFault(address: string, insecure: boolean): string | undefined {
  const { host, port } = splitAddress(address);
  if (port > 65_535) return `${address}: there is no port ${port}`;
  if (insecure || isLoopback(host) || host === "localhost") return undefined;
  return `${address} can be reached from elsewhere, without TLS`;
}
