import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { addAdminCommands } from "./admin.ts";
import { addBuildCommands } from "./build.ts";
import { addChangeCommands } from "./change.ts";
import { addFleetCommands } from "./fleet.ts";
import { addLeaseCommands } from "./lease.ts";
import { openProgram } from "./program.ts";
import { addTestenvCommands } from "./te.ts";

const long = "a-name-that-somebody-chose-to-be-as-long-as-names-may-be-".repeat(3);
const id = "0a1b2c3d-1111-4222-8333-444455556666";
const at = "2026-11-24T10:38:36.002Z";

/** Any thing of the API with long values everywhere; each list takes what it shows. */
const thing = {
  id,
  name: long,
  number: 123_456_789,
  change: 123_456_789,
  patchset: 1_000,
  status: "ABANDONED",
  project: long,
  owner: long,
  subject: long,
  branch: long,
  pipeline: long,
  votes: [
    { label: "Code-Review", value: -2, by: long },
    { label: "Verified", value: 1, by: long },
  ],
  job: long,
  result: "POST_FAILURE",
  state: "quarantined",
  attempt: 3,
  maxAttempts: 3,
  node: id,
  nodeAddress: "2001:db8:1234:5678:9abc:def0:1234:5678",
  te: `${"host-of-the-rack".repeat(3)}:1`,
  testenvs: [{ id: `${"host-of-the-rack".repeat(3)}:1`, epoch: "9".repeat(20) }],
  holder: { name: long },
  createdAt: at,
  startedAt: at,
  endedAt: at,
  expiresAt: at,
  readyAt: at,
  builtAt: at,
  lastSeenAt: at,
  kind: long,
  epoch: "9".repeat(20),
  lease: id,
  machines: { count: 15, memoryMiB: 1_048_576 },
  labels: [long, long],
  detail: long,
  label: long,
  address: "2001:db8:1234:5678:9abc:def0:1234:5678",
  build: id,
  host: long,
  sizeBytes: 123_456_789_012,
  digest: `sha256:${"0".repeat(64)}`,
  health: "degraded",
  accelerator: "kvm",
  load: 123.4,
  freeMemoryMiB: 1_048_576,
  problems: [long, long],
  role: "developer",
  groups: [long, long],
};

const server = createServer((_request, response) => {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ items: [{ ...thing, id: "here:1" }, thing], next: null }));
});
let url: string;
beforeAll(async () => {
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

const lists = ["change", "build", "lease", "te", "node", "image", "host", "token"];

for (const noun of lists) {
  test(`surface.md §2 ${noun} list fits 80 columns, whatever its values are`, async () => {
    const program = openProgram("0.1.0");
    addChangeCommands(program);
    addBuildCommands(program);
    addLeaseCommands(program);
    addTestenvCommands(program);
    addFleetCommands(program);
    addAdminCommands(program);
    let text = "";
    const exit = await program.run([noun, "list", "--url", url], {
      env: {},
      signal: new AbortController().signal,
      streams: {
        stdout: { write: (data) => (text += String(data)), isTTY: true, columns: 80 },
        stderr: { write: () => true },
      },
    });
    expect(exit).toBe(0);
    const lines = stripVTControlCharacters(text).trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(2);
    expect(lines.filter((line) => Array.from(line).length > 80)).toEqual([]);
    // no column is squeezed away: each keeps some letters of its heading
    for (const word of lines[0]!.split(/ {2,}/)) expect(word.length).toBeGreaterThan(1);
  });
}
