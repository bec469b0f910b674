/**
 * A review system in a process of its own, for tests that kill it: `review-program.ts DIRECTORY
 * PORT KILL-AT`. Everybody is the developer dora or the admin ada, by name. KILL-AT: `none`, the
 * nth transaction from now on by its number (before it is done), or `recorded`: after a change
 * was recorded, before anybody is answered. Prints its URL when it listens.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openGit } from "../../src/git/git-command.ts";
import { openBuiltinReview } from "../../src/review/builtin/builtin.ts";
import { openSqliteStore } from "../../src/store/store.ts";
import type { Store } from "../../src/store/store.ts";
import { whoIs } from "./git-bench.ts";

const [directory = "", port = "0", killAt = "none"] = process.argv.slice(2);
const die = (): never => {
  process.kill(process.pid, "SIGKILL");
  throw new Error("dead");
};

const real = await openSqliteStore(join(directory, "server/rackyard.db"));
let transactions = 0;
let armed = false;
const store: Store = {
  ...real,
  transaction(work) {
    if (armed && String(++transactions) === killAt) die();
    return real.transaction(work);
  },
};
let url = "";
const review = await openBuiltinReview({
  connection: "local",
  store,
  git: await openGit(join(directory, "server")),
  repositoriesDirectory: join(directory, "server/git"),
  binDirectory: join(directory, "bin"),
  socketPath: join(directory, "run/git.sock"),
  node: process.execPath,
  url: () => url,
  anonymousRead: "loopback",
  buildsOf: () => Promise.resolve(new Map()),
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
});
await review.setProjects(["app"]);
review.onChanged(() => {
  if (killAt === "recorded") die();
});
armed = true;
const server = createServer((request, response) => {
  void review.git(request, response, whoIs(request));
});
server.listen(Number(port), "127.0.0.1");
await once(server, "listening");
url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
process.stdout.write(`${url}\n`);
