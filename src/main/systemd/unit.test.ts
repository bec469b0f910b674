import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { runnableFolder } from "../../base/runnable-folder.ts";
import { run } from "../../base/command.ts";
import { unitName, unitText } from "./unit.ts";

const template = new URL("../../../examples/service/rackyard.service", import.meta.url);

test("issue 6 §10 the unit is one that systemd takes, also with blanks and signs in the paths", async () => {
  const folder = await runnableFolder("unit ");
  try {
    for (const state of ["/var/lib/rackyard", "/srv/a b/50% $HOME/ü"]) {
      const text = unitText(await readFile(template, "utf8"), { root: folder, state });
      expect(text).not.toContain("@");
      await writeFile(join(folder, "rackyard"), "#!/bin/sh\n", { mode: 0o755 });
      const path = join(folder, "rackyard.service");
      await writeFile(path, text);
      const said = await run("systemd-analyze", ["verify", "--man=no", path], { accept: "any" });
      expect(`${said.stdout}${said.stderr}`).not.toMatch(/rackyard\.service:/);
      expect(said.exitCode).toBe(0);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("issue 6 §10 several installations have units of their own", () => {
  expect(unitName("/var/lib/rackyard", true)).toBe("rackyard.service");
  expect(unitName("/srv/second", false)).toBe("rackyard-srv-second.service");
  expect(unitName("/srv/a b/%", false)).toBe("rackyard-srv-a-b-.service");
});
