import { createReadStream } from "node:fs";
import { mkdtemp, readdir, readlink, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { open, readText } from "./http-client.ts";

let directory: string;
let file: string;
let server: Server;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-http-"));
  file = join(directory, "console.log");
  await writeFile(file, Buffer.alloc(4 * 1024 * 1024));
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(directory, { recursive: true });
});

async function serve(listener: RequestListener): Promise<{ url: string }> {
  server = createServer(listener).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** How often this process has the file open. */
async function opened(): Promise<number> {
  const places = await Promise.all(
    (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
  );
  return places.filter((place) => place === file).length;
}

test("an upload whose file is gone fails by itself; nothing else does", async () => {
  const endpoint = await serve((_request, response) => response.end());
  const stream = createReadStream(join(directory, "gone"));
  await expect(open(endpoint, "/f", { method: "PUT", stream })).rejects.toMatchObject({
    code: "ENOENT",
  });
});

test("uploads that are answered early, or whose peer dies, leave no file open", async () => {
  let answers = 0;
  const endpoint = await serve((request, response) => {
    if (answers++ % 2 === 0) {
      response.writeHead(413, { connection: "close" }).end("too large");
    } else request.socket.destroy();
  });
  for (let n = 0; n < 20; n++) {
    const stream = createReadStream(file);
    const answer = await open(endpoint, "/f", { method: "PUT", stream }).catch(() => undefined);
    if (answer) await readText(answer, 1_000).catch(() => "");
  }
  await expect.poll(opened).toBe(0);
});
