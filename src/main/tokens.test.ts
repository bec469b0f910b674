import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../base/clock.ts";
import { systemRandom } from "../base/random.ts";
import { openSqliteStore } from "../store/store.ts";
import type { Store } from "../store/store.ts";
import { openAnswerStore } from "./answer-store.ts";
import { openTokens } from "./tokens.ts";

let directory: string;
let store: Store;
let nowMs = 1_000_000;
const clock = { ...systemClock, wallMs: () => nowMs };

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "tokens-"));
});
afterAll(() => rm(directory, { recursive: true }));
beforeEach(async () => {
  store = await openSqliteStore(":memory:");
});
afterEach(() => store[Symbol.asyncDispose]());

test("surface.md §6 a token is shown once, kept as SHA-256, and names its user", async () => {
  const tokens = openTokens(store, clock, systemRandom);
  const made = await tokens.createToken({ name: "dora", role: "developer", groups: ["g"] });
  expect(made.token).toMatch(/^ry_[A-Za-z0-9_-]{43}$/);
  const rows = await store.db.selectFrom("token").selectAll().execute();
  expect(JSON.stringify(rows)).not.toContain(made.token.slice(3));
  expect(await tokens.authenticate(made.token)).toEqual({
    name: "dora",
    role: "developer",
    groups: ["g"],
  });
  expect(await tokens.authenticate(`${made.token}x`)).toBeUndefined();
  await tokens.revokeToken(made.id);
  expect(await tokens.authenticate(made.token)).toBeUndefined();
  await expect(tokens.revokeToken(made.id)).rejects.toMatchObject({ code: "not-found" });
});

test("surface.md §6 an expired token is no token", async () => {
  const tokens = openTokens(store, clock, systemRandom);
  const request = { name: "a", role: "reader", groups: [], expiresInSeconds: 60 } as const;
  const { token } = await tokens.createToken(request);
  expect(await tokens.authenticate(token)).toBeDefined();
  nowMs += 60_000;
  expect(await tokens.authenticate(token)).toBeUndefined();
});

test("surface.md §6 the first start writes tokens/admin (0600); a broken one is replaced", async () => {
  const tokens = openTokens(store, clock, systemRandom);
  const path = join(directory, "tokens/admin");
  await tokens.ensureAdmin(path);
  const first = (await readFile(path, "utf8")).trim();
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect((await stat(join(directory, "tokens"))).mode & 0o777).toBe(0o700);
  await tokens.ensureAdmin(path);
  expect((await readFile(path, "utf8")).trim()).toBe(first);
  await writeFile(path, "ry_lost\n");
  await tokens.ensureAdmin(path);
  const next = (await readFile(path, "utf8")).trim();
  expect(await tokens.authenticate(next)).toMatchObject({ name: "admin", role: "admin" });
});

test("surface.md §5 kept answers are found for a day", async () => {
  const answers = openAnswerStore(store, clock);
  const answer = { bodyHash: "h", status: 201, answer: "sealed" };
  await answers.keep("k", answer);
  expect(await answers.find("k")).toEqual(answer);
  nowMs += 24 * 3600_000;
  expect(await answers.find("k")).toBeUndefined();
  await answers.keep("k", { ...answer, answer: "new" });
  expect(await answers.find("k")).toMatchObject({ answer: "new" });
});
