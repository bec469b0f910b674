/**
 * The doctor's looks at the network: the port where the server is to listen, and a free /24 for
 * the test network. Ports inside a cell cannot be taken by anybody else.
 */
import { createServer } from "node:net";
import { join } from "node:path";
import { readTextIfAny } from "../../base/files.ts";
import { row } from "./row.ts";
import type { DoctorContext, Row } from "./row.ts";

export async function portRow(context: DoctorContext): Promise<Row> {
  const why = "API, git, logs and dashboard are served there";
  const taken: string[] = [];
  for (const address of context.listen) if (await isTaken(address)) taken.push(address);
  const at = context.listen.join(", ");
  if (taken.length === 0) return row("port", "ok", `${at}: free`, why, null);
  const ready = await readTextIfAny(join(context.state, "run/ready.json")).catch(() => undefined);
  if (ready && taken.every((address) => ready.includes(address))) {
    return row("port", "ok", `${at}: the server of this state listens`, why, null);
  }
  const port = portOf(taken[0] ?? "");
  const cure = `ss -ltnp 'sport = :${port}' names it; or --set server.listen=127.0.0.1:0`;
  return row("port", "warn", `${taken.join(", ")}: taken by another program`, why, cure);
}

const portOf = (address: string): string => address.slice(address.lastIndexOf(":") + 1);

/** Port 0 is any free one. */
function isTaken(address: string): Promise<boolean> {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "EADDRINUSE"));
    server.listen({ host, port: Number(portOf(address)), exclusive: true }, () => {
      server.close(() => resolve(false));
    });
  });
}

export async function networkRow(): Promise<Row> {
  const routes = (await readTextIfAny("/proc/net/route")) ?? "";
  const free = freeTestNetwork(parseRoutes(routes));
  const why = "seeds, nodes and the cell share a network 10.99.k.0/24 that no route covers";
  const cure = "--set teHost.testNetwork.cidr=… with a /24 that is free here";
  if (free === undefined) return row("test network", "missing", "no free /24", why, cure);
  return row("test network", "ok", `${free} is free`, why, null);
}

export type Route = { readonly network: number; readonly mask: number };

/** /proc/net/route: addresses are hexadecimal, in the machine's byte order (little endian). */
export function parseRoutes(text: string): Route[] {
  const number = (hex: string): number => Buffer.from(hex, "hex").readUInt32LE(0);
  return text
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields.length >= 8)
    .map((fields) => ({ network: number(fields[1] ?? ""), mask: number(fields[7] ?? "") }));
}

/** The first 10.99.k.0/24 that no route but the default one covers (H-2.2). */
export function freeTestNetwork(routes: readonly Route[]): string | undefined {
  const covering = routes.filter(({ mask }) => mask !== 0);
  for (let k = 0; k < 256; k++) {
    const network = ((10 << 24) | (99 << 16) | (k << 8)) >>> 0;
    const overlaps = covering.some((route) => {
      const common = (route.mask & 0xffffff00) >>> 0;
      return (network & common) >>> 0 === (route.network & common) >>> 0;
    });
    if (!overlaps) return `10.99.${k}.0/24`;
  }
  return undefined;
}
