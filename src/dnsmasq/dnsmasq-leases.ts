/**
 * What dnsmasq has given out: its lease file, its log's acknowledgements, and the end of a lease,
 * which `dhcp_release` asks for as the client would.
 */
import { stat } from "node:fs/promises";
import { run } from "../base/command.ts";
import { readTextIfAny } from "../base/files.ts";
import { followLines } from "../base/file-tail.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";

export type Lease = { readonly mac: string; readonly ip: string };

/** A line a lease: expiry, MAC, address, name, client id; IPv6 ones after a line `duid …`. */
export function parseLeases(text: string): Lease[] {
  return [...text.matchAll(/^\d+ ([0-9a-f:]{17}) (\d+\.\d+\.\d+\.\d+) /gm)].map(([, mac, ip]) => ({
    mac: mac!,
    ip: ip!,
  }));
}

export async function readLeases(leaseFile: string): Promise<Lease[]> {
  return parseLeases((await readTextIfAny(leaseFile)) ?? "");
}

/**
 * The acknowledged address in a line of the log; undefined for all other lines. Only the line's
 * beginning counts: names and vendor classes, which clients choose, are logged behind it.
 */
export function parseAck(line: string): Lease | undefined {
  const [, ip, mac] = ACK.exec(line) ?? [];
  return ip && mac ? { mac, ip } : undefined;
}

const ACK =
  /^dnsmasq-dhcp(?:\[\d+\])?: \d+ DHCPACK\([\w-]+\) (\d+\.\d+\.\d+\.\d+) ([0-9a-f:]{17})(?: |$)/;

/** Calls back for each acknowledgement from now on, until the signal aborts. */
export async function watchAcks(
  logFile: string,
  onAck: (lease: Lease) => void,
  signal: AbortSignal,
): Promise<void> {
  await followLines(logFile, {
    signal,
    onLine(line) {
      const ack = parseAck(line);
      if (ack) onAck(ack);
    },
  });
}

/** Resolves when the log tells that this address was offered to this MAC, after `ask` is done. */
export async function seesOffer(
  logFile: string,
  { mac, ip }: Lease,
  ask: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const from = await stat(logFile).then(({ size }) => size);
  const stop = new AbortController();
  const over = AbortSignal.any([signal, stop.signal]);
  let seen = false;
  const following = followLines(logFile, {
    from,
    signal: over,
    onLine(line) {
      if (!isOffer(line, { mac, ip })) return;
      seen = true;
      stop.abort();
    },
  });
  try {
    await ask();
    await following;
  } finally {
    stop.abort();
  }
  if (!seen) throw signal.reason;
}

export function isOffer(line: string, { mac, ip }: Lease): boolean {
  const [, offered, to] = /DHCPOFFER\(\S+\) (\d+\.\d+\.\d+\.\d+) ([0-9a-f:]{17})/.exec(line) ?? [];
  return offered === ip && to === mac;
}

/** Ends the leases of a MAC; returns when the lease file knows none of them. */
export async function releaseLease(
  settings: { readonly interface: string; readonly leaseFile: string },
  mac: string,
): Promise<void> {
  const own = async (): Promise<Lease[]> =>
    (await readLeases(settings.leaseFile)).filter((lease) => lease.mac === mac);
  await until(
    async () => {
      const leases = await own();
      for (const { ip } of leases) await run("dhcp_release", [settings.interface, ip, mac]);
      return leases.length === 0;
    },
    { timeoutMs: limits.dhcpReleaseMs, everyMs: 20, what: `the DHCP lease of ${mac} to end` },
  );
}
