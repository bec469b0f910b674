/**
 * Which addresses the server listens on (surface.md §4): as configured; the default port for the
 * default state directory alone; another state directory takes any free port, keeps it and uses
 * it again, so that addresses in old mails stay true.
 */
import { createServer } from "node:net";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import { splitAddress } from "../../api/listen-address.ts";
import type { Places } from "../places.ts";

export type Listeners = {
  readonly addresses: readonly string[];
  /** Remembers the ports that were bound, for those that were any. */
  keep(urls: readonly string[]): Promise<void>;
};

const standard = "127.0.0.1:7225";

export async function chooseListeners(
  places: Places,
  configured: readonly string[],
  /** Nobody wrote the addresses down: they are the program's own. */
  isDefault: boolean,
): Promise<Listeners> {
  const anyPort = (address: string): string => address.replace(/:[0-9]+$/, ":0");
  const wanted =
    isDefault && !places.isDefault
      ? configured.map((address) => (address === standard ? anyPort(address) : address))
      : configured;
  const kept = await keptPorts(places);
  const addresses: string[] = [];
  for (const [n, address] of wanted.entries()) {
    const port = kept[String(n)];
    const { host, port: asked } = splitAddress(address);
    const again = asked === 0 && port !== undefined && (await isFree(host, port));
    addresses.push(again ? address.replace(/:0$/, `:${port}`) : address);
  }
  return {
    addresses,
    async keep(urls) {
      const any = wanted.flatMap((address, n) =>
        splitAddress(address).port === 0 ? [[String(n), Number(new URL(urls[n]!).port)]] : [],
      );
      if (any.length === 0) return;
      await writeFileAtomic(places.ports, `${JSON.stringify(Object.fromEntries(any))}\n`);
    },
  };
}

async function keptPorts(places: Places): Promise<Record<string, number>> {
  const text = await readTextIfAny(places.ports);
  return text === undefined ? {} : (JSON.parse(text) as Record<string, number>);
}

/** Another program may have taken it meanwhile: then any other will do. */
function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, host, () => probe.close(() => resolve(true)));
  });
}
