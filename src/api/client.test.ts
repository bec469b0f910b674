/**
 * The client against a server that breaks off: what is followed goes on where it was.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { openClient } from "./client.ts";

/** A server whose console breaks off after line 1, then is away once, then goes on. */
async function brokenServer() {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const url = request.url ?? "";
    if (!url.includes("/console")) {
      response.setHeader("content-type", "application/json");
      const state = asked.length === 0 ? "running" : "reported";
      response.end(JSON.stringify({ state }));
      return;
    }
    asked.push(new URL(url, "http://x").searchParams.get("after") ?? "");
    if (asked.length === 2) {
      request.socket.destroy();
      return;
    }
    response.writeHead(200, { "content-type": "text/event-stream" });
    if (asked.length === 1) {
      response.write("id: 1\nevent: line\ndata: one\n\n", () => request.socket.destroy());
      return;
    }
    response.end("id: 2\nevent: line\ndata: two\n\nid: 2\nevent: end\ndata:\n\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

test("issue 6, §10: a console that is followed survives a broken connection, each line once", async () => {
  const { url, asked } = await brokenServer();
  const lines: unknown[] = [];
  for await (const line of openClient({ url }).builds.follow("b")) lines.push(line);
  expect(lines).toEqual([
    { seq: 1, line: "one" },
    { seq: 2, line: "two" },
  ]);
  expect(asked).toEqual(["0", "1", "1"]);
});

test("issue 6, §10: an answer is no broken connection", async () => {
  const server = createServer((_, response) => {
    response.writeHead(404, { "content-type": "application/problem+json" });
    response.end(JSON.stringify({ code: "not-found", detail: "no such build" }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const followed = openClient({ url: `http://127.0.0.1:${port}` }).builds.follow("b");
  await expect(followed.next()).rejects.toMatchObject({ code: "not-found" });
});
