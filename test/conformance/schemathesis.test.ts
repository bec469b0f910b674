/**
 * A stranger's tool (schemathesis, from PyPI) reads our OpenAPI document and sends what it makes
 * of it: no answer may be a server error. Deep, because it fetches a Python package with what it
 * needs, and takes two minutes.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { plainEnv, run } from "../../src/base/command.ts";
import { readTextIfAny } from "../../src/base/files.ts";
import { until } from "../../src/base/wait.ts";

const program = join(import.meta.dirname, "../../src/main/rackyard.ts");

describe.runIf(process.env["RACKYARD_TEST_DEEP"])("deep: schemathesis", () => {
  let directory: string;
  let missing: string | undefined;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "rackyard-schemathesis-"));
    const venv = join(directory, "venv");
    const env = plainEnv({ HOME: directory });
    const options = { env, accept: "any", timeoutMs: 300_000 } as const;
    const made = await run("python3", ["-m", "venv", venv], options);
    const pip = ["install", "--quiet", "--retries", "1", "schemathesis==4.32.5"];
    const got = made.exitCode === 0 ? await run(join(venv, "bin/pip"), pip, options) : made;
    if (got.exitCode !== 0) missing = got.stderr.trim().split("\n").at(-1) ?? "no venv";
  }, 600_000);
  afterAll(() => rm(directory, { recursive: true, force: true }));

  test("surface.md §5 whatever a client sends, no answer is a server error", async (context) => {
    context.skip(missing !== undefined, `schemathesis could not be had: ${missing}`);
    const state = join(directory, "state");
    const programWords = ["--disable-sigusr1", program, "server", "--state", state];
    const server = spawn(process.execPath, programWords, { stdio: "ignore" });
    try {
      const ready = await until(() => readTextIfAny(join(state, "run/ready.json")), {
        timeoutMs: 30_000,
        what: "the server to be ready",
      });
      const { api } = JSON.parse(ready) as { api: string };
      const token = (await readFile(join(state, "tokens/admin"), "utf8")).trim();
      // /v1/events never ends.
      const words = [`run ${api}/v1/openapi.json -H`.split(" "), `Authorization: Bearer ${token}`]
        .concat("--checks not_a_server_error --phases examples,coverage,fuzzing".split(" "))
        .concat("--max-examples 10 --request-timeout 5 --generation-deterministic".split(" "))
        .concat("--exclude-path /v1/events --no-color".split(" "))
        .flat();
      const told = await run(join(directory, "venv/bin/schemathesis"), words, {
        env: plainEnv({ HOME: directory }),
        accept: "any",
        timeoutMs: 600_000,
      });
      expect(told.stdout).toMatch(/Coverage .*\n+.*\d+ passed/);
      expect([told.exitCode, told.stdout]).toEqual([
        0,
        expect.not.stringContaining("Server error"),
      ]);
    } finally {
      server.kill("SIGTERM");
      await once(server, "exit");
    }
  }, 900_000);
});
