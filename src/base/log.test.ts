import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openFileLog } from "./log.ts";

test("L6 a log on a full disk does not end who writes it", async () => {
  const directory = await mkdtemp(join(tmpdir(), "rackyard-log-"));
  try {
    // The kernel's own full disk: each write is ENOSPC.
    await symlink("/dev/full", join(directory, "log.jsonl"));
    const log = openFileLog(join(directory, "log.jsonl"));
    for (let n = 0; n < 3; n++) expect(() => log.error({ n }, "something failed")).not.toThrow();
  } finally {
    await rm(directory, { recursive: true });
  }
});
