import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { launch, plainEnv } from "../base/command.ts";
import { openGit } from "./git-command.ts";
import { removeLocks } from "./strays.ts";

async function folder(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "rackyard-strays-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

test("locks of refs, packs and collections go, objects and refs stay", async () => {
  const directory = await folder();
  await mkdir(join(directory, "refs/heads/a"), { recursive: true });
  await mkdir(join(directory, "objects/pack"), { recursive: true });
  const stay = ["refs/heads/a/lock", "objects/pack/pack-1.lock", "packed-refs", "HEAD"];
  const go = ["packed-refs.lock", "HEAD.lock", "gc.pid", "refs/heads/a/x.lock"];
  for (const file of [...stay, ...go]) await writeFile(join(directory, file), "");
  const removed = await removeLocks(directory);
  expect(removed.sort()).toEqual(go.map((file) => join(directory, file)).sort());
  expect(await readdir(join(directory, "refs/heads/a"))).toEqual(["lock"]);
  expect(await removeLocks(join(directory, "nowhere"))).toEqual([]);
});

test("git that an earlier server left is ended before the first of ours runs, another's is not", async () => {
  const directory = await folder();
  const left = launch("cat", [], {
    env: plainEnv({ GIT_CONFIG_GLOBAL: join(directory, "server/gitconfig") }),
    stdio: ["pipe", "ignore", "ignore"],
  });
  onTestFinished(() => left.end());
  await openGit(join(directory, "elsewhere"));
  expect(left.process.signalCode).toBeNull();
  const git = await openGit(join(directory, "server"));
  expect((await left.exited).signalNumber).toBe(9);
  // every git has an address-space limit; what it starts may lift it, as the hook's program does
  const limits = await git.run(".", ["-c", "alias.l=!ulimit -S -v; ulimit -H -v", "l"]);
  expect(limits.stdout.trim().split("\n")).toEqual([String(2 * 1024 * 1024), "unlimited"]);
});
