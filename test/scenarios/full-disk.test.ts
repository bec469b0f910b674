/**
 * A store and a log on a disk of their own that fills and is freed again: what cannot be written
 * did not happen, is told as such, and everything works by itself when there is room.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { plainEnv, run } from "../../src/base/command.ts";

const program = (directory: string): string => `
import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { openFileLog } from "${import.meta.dirname}/../../src/base/log.ts";
import { openSqliteStore } from "${import.meta.dirname}/../../src/store/store.ts";
const log = openFileLog("${directory}/log.jsonl");
const store = await openSqliteStore("${directory}/test.db");
const kind = { life: "lamp", columns: () => ({}) };
let n = 0;
const put = () => store.transaction((tx) => store.append(tx, kind, {
  id: "l" + ++n, from: null, event: "lit", to: "on", body: { text: "x".repeat(9_000) }, atMs: n }));
await put();
const fill = openSync("${directory}/fill", "w");
for (const size of [65_536, 4_096]) try { for (;;) writeSync(fill, Buffer.alloc(size)); } catch {}
closeSync(fill);
const codes = [];
for (let tries = 0; tries < 5; tries++) {
  await put().catch((error) => codes.push(error.code));
  log.error({ tries }, "a transaction failed ".repeat(200));
}
rmSync("${directory}/fill");
await put();
log.info({}, "works again");
const rows = await store.rows(kind, { limit: 100 });
await store.rebuild(kind);
const again = await store.rows(kind, { limit: 100 });
await store[Symbol.asyncDispose]();
const lines = readFileSync("${directory}/log.jsonl", "utf8").trim().split("\\n");
console.log(JSON.stringify({
  codes, ids: rows.map((row) => row.id), same: JSON.stringify(rows) === JSON.stringify(again),
  last: lines.slice(-2).map((line) => JSON.parse(line)),
}));
`;

test.skipIf(process.getuid?.() !== 0)(
  "L6 store and log on a full disk: told, nothing half, and they work again with room",
  async () => {
    const directory = await mkdtemp(join(tmpdir(), "rackyard-full-"));
    try {
      const mount = `mount -t tmpfs -o size=1m none "${directory}" && exec "$@"`;
      const words = [process.execPath, "--input-type=module-typescript", "-e", program(directory)];
      const { stdout } = await run("unshare", ["--mount", "sh", "-c", mount, "sh", ...words], {
        env: plainEnv({}),
      });
      const told = JSON.parse(stdout) as {
        codes: string[];
        ids: string[];
        same: boolean;
        last: { msg: string; lost?: number }[];
      };
      expect(told.codes.length).toBeGreaterThan(0);
      expect(new Set(told.codes)).toEqual(new Set(["no-space"]));
      // Those that were refused are not there; the one after is.
      expect(told.ids).toHaveLength(7 - told.codes.length);
      expect(told.ids).toContain("l7");
      expect(told.same).toBe(true);
      expect(told.last.map(({ msg }) => msg)).toEqual([
        "lines of this log are lost",
        "works again",
      ]);
      expect(told.last[0]!.lost).toBeGreaterThan(0);
    } finally {
      await rm(directory, { recursive: true });
    }
  },
);
