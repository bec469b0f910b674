/** Issue 6, section 9, "one pot for all": the commands of one rack at once have a limit. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { limits } from "../../base/limits.ts";
import { silentLog } from "../../base/log.ts";
import { until } from "../../base/wait.ts";
import { openRackSockets } from "./rack-sockets.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "gate-"));
});
afterEach(() => rm(folder, { recursive: true }));

const owner = { uid: process.getuid!(), gid: process.getgid!() };
const path = (number: number): string => join(folder, `te${number}.sock`);

function ask(number: number): Socket {
  const socket = connect(path(number));
  const header = {
    lease: "l",
    epoch: "4",
    command: "virsh list",
    from: "10.99.0.180",
    again: false,
  };
  socket.write(`${JSON.stringify(header)}\n`);
  return socket;
}
async function answerOf(socket: Socket): Promise<string> {
  const [bytes] = (await once(socket, "data")) as [Buffer];
  return bytes.toString("utf8");
}

test("one more than its share is refused at once; another rack and its own next are served", async () => {
  const done = Promise.withResolvers<void>();
  const sockets = openRackSockets({
    log: silentLog,
    async answer({ number }) {
      if (number === 1) await done.promise;
      return { stdout: `te${number}`, stderr: "", exitCode: 0 };
    },
  });
  for (const number of [1, 2]) await sockets.listen(number, path(number), owner);
  const held = Array.from({ length: limits.gateCalls }, () => ask(1));
  await until(() => sockets.open(1) === limits.gateCalls, { timeoutMs: 5_000, what: "all" });
  for (let n = 0; n < 100; n++) {
    const more = ask(1);
    expect(await answerOf(more)).toContain("commands of this rack are being carried out already");
    more.destroy();
  }
  expect(sockets.open(1)).toBe(limits.gateCalls);
  expect(await answerOf(ask(2))).toContain("te2");

  done.resolve();
  await sockets.settled(1);
  expect(await answerOf(ask(1))).toContain("te1");
  for (const socket of held) socket.destroy();
  await Promise.all([sockets.shut(1), sockets.shut(2)]);
});

test("a client that was turned away and stays does not keep its rack's socket from closing", async () => {
  const sockets = openRackSockets({ log: silentLog, answer: () => new Promise(() => undefined) });
  await sockets.listen(1, path(1), owner);
  Array.from({ length: limits.gateCalls }, () => ask(1));
  await until(() => sockets.open(1) === limits.gateCalls, { timeoutMs: 5_000, what: "all" });
  const more = connect({ path: path(1), allowHalfOpen: true });
  await answerOf(more);
  await expect(sockets.shut(1)).resolves.toBe(undefined);
  more.destroy();
});
