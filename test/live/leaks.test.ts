/** `doctor --leaks` against real namespaces: it tells what nobody owns, and nothing else. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { endCell } from "../../src/hypervisor/cell-end.ts";
import { prepareCell } from "../../src/hypervisor/cell.ts";
import { leaks } from "../../src/main/leaks.ts";

test("issue 3, row 11: a cell is left over when its programs or its state are gone", async () => {
  const state = mkdtempSync(join(tmpdir(), "leaks-"));
  const cell = await prepareCell({ state, cidr: "auto", mtu: 1_500, log: silentLog });
  const kinds = async (of: string): Promise<string[]> =>
    (await leaks(of))
      .filter(({ name, why }) => `${name} ${why}`.includes(cell.netns.slice("ry-".length)))
      .map(({ kind }) => kind);
  try {
    expect((await kinds(state)).toSorted()).toEqual(
      expect.arrayContaining(["link", "netns", "process"]),
    );
    expect(await kinds("/nonexistent")).toEqual([]);
    rmSync(state, { recursive: true });
    expect(await kinds("/nonexistent")).toEqual(["process"]);
  } finally {
    mkdirSync(state, { recursive: true });
    await endCell(state);
  }
  expect(await kinds(state)).toEqual([]);
  rmSync(state, { recursive: true });
});
