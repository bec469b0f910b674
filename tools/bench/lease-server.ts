/**
 * A broker with its API on a database in DIRECTORY, in a process of its own: what leases.ts
 * measures. Prints one line of JSON with its addresses; ends when its stdin does.
 */
import { openLeaseServer } from "../../test/scenarios/lease-world.ts";

const server = await openLeaseServer(process.argv[2]!);
console.log(JSON.stringify({ url: server.endpoint.url, hostUrl: server.hostUrl }));
let longestMs = 0;
let atMs = performance.now();
setInterval(() => {
  longestMs = Math.max(longestMs, performance.now() - atMs - 10);
  atMs = performance.now();
}, 10).unref();
process.stdin.resume();
process.stdin.once("end", () => {
  console.log(JSON.stringify({ longestStallMs: Math.round(longestMs) }));
  void server.close().then(() => process.exit(0));
});
