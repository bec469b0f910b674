import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { launch } from "./command.ts";
import { lockFile } from "./lock.ts";

const here = (file: string): string => new URL(`./${file}.ts`, import.meta.url).href;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lock-"));
});
afterEach(() => rm(folder, { recursive: true }));

it("has one owner at a time, and names it", async () => {
  const path = join(folder, "lock");
  {
    await using _held = await lockFile(path, "the folder");
    const refused = lockFile(path, "the folder");
    await expect(refused).rejects.toThrow(`the folder is in use by process ${process.pid}`);
  }
  await using _again = await lockFile(path, "the folder");
});

it("lets one of fifty in that come at once, whatever an earlier owner left", async () => {
  const path = join(folder, "lock");
  await writeFile(path, "4194304 12345\n");
  const tries = await Promise.allSettled(Array.from({ length: 50 }, () => lockFile(path, "it")));
  const held = tries.filter((one) => one.status === "fulfilled");
  expect(held).toHaveLength(1);
  await held[0]!.value[Symbol.asyncDispose]();
});

it("is not inherited by children, and free when its owner is killed", async () => {
  const path = join(folder, "lock");
  const program = `
    const { lockFile } = await import(${JSON.stringify(here("lock"))});
    await lockFile(${JSON.stringify(path)}, "it");
    const { launch } = await import(${JSON.stringify(here("command"))});
    const child = launch("sleep", ["60"], { stdio: "ignore" });
    console.log(child.pid);
    setInterval(() => {}, 1000);`;
  const owner = launch(process.execPath, ["--input-type=module", "-e", program]);
  const [said] = (await once(owner.stdout!, "data")) as [Buffer];
  try {
    await expect(lockFile(path, "it")).rejects.toThrow(`in use by process ${owner.pid}`);
    process.kill(owner.pid, "SIGKILL");
    await once(owner.process, "exit");
    await using _held = await lockFile(path, "it");
    expect(await readFile(path, "utf8")).toMatch(new RegExp(`^${process.pid} \\d+\\n$`));
  } finally {
    process.kill(Number(said.toString()), "SIGKILL");
  }
});
