/**
 * Ordinary surroundings of a client that once ended as a mistake of ours.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { temporaryFolder } from "../base/files.ts";
import { contextOf, globalsOf } from "./context.ts";

afterEach(() => vi.unstubAllEnvs());

const endpointWith = (env: Record<string, string>, options: Record<string, unknown> = {}) =>
  contextOf(
    globalsOf({ url: "http://127.0.0.1:1", ...options }, env),
    env,
    new AbortController().signal,
  ).endpoint();

test("case users-environment: a token is pasted with its newline", async () => {
  expect(await endpointWith({ RACKYARD_TOKEN: "abc\r\n" })).toMatchObject({ token: "abc" });
  expect(await endpointWith({ RACKYARD_TOKEN: " \n" })).toMatchObject({ token: undefined });
  expect(globalsOf({}, { RACKYARD_URL: "http://a:1\n" }).url).toBe("http://a:1");
});

test("case users-environment: a token that no header can carry is a fault of usage", async () => {
  await expect(endpointWith({ RACKYARD_TOKEN: "a\nb" })).rejects.toMatchObject({ code: "usage" });
  const folder = await mkdtemp(join(tmpdir(), "token-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "token"), "“abc”\n");
  const tokenFile = join(folder, "token");
  await expect(endpointWith({}, { tokenFile })).rejects.toMatchObject({ code: "usage" });
  await writeFile(tokenFile, "abc\n");
  expect(await endpointWith({}, { tokenFile })).toMatchObject({ token: "abc" });
});

test("case users-environment: a temporary folder that cannot be is the world's error, 73", async () => {
  for (const path of ["/nonexistent", "/proc/self", "/etc/passwd"]) {
    vi.stubEnv("TMPDIR", path);
    await expect(temporaryFolder("x-")).rejects.toMatchObject({
      code: "temporary-unusable",
      exitCode: 73,
      remedy: expect.stringContaining("TMPDIR") as string,
    });
  }
});
