/**
 * A CI node on real parts (te-host.md §17): its image built from the recipe in the machine's own
 * network, kept in a place that test runs share; booted, reached with the host key made for it,
 * removed without a trace.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { systemRandom } from "../../src/base/random.ts";
import { readRecipe } from "../../src/ci/nodepool/recipe.ts";
import type { ToHost } from "../../src/model/session.ts";
import { sshArgs, writeKnownHosts } from "../../src/ssh/client.ts";
import { makeEd25519Key } from "../../src/ssh/keys.ts";
import { writeFileAtomic } from "../../src/base/files.ts";
import { makeTestHost, playBroker } from "./te-host-process.ts";
import type { PlayedBroker, TestHost } from "./te-host-process.ts";

const recipeFolder = join(import.meta.dirname, "../../images/debian-12");
let host: TestHost;
let broker: PlayedBroker;
beforeAll(async () => {
  const cache = "/var/cache/rackyard-test/images";
  await mkdir(cache, { recursive: true });
  const kinds = { two: { count: 1 } };
  host = await makeTestHost({ accelerator: "tcg", kinds, images: { cache } });
  broker = await playBroker(host.socket);
  await host.start();
  await broker.reported("ready", undefined, 120_000);
});
afterAll(async () => {
  await broker?.[Symbol.asyncDispose]();
  await host?.[Symbol.asyncDispose]();
});

let image = "";
test("H-7.8 an image is built from its recipe, outside of the cell, and never twice", async () => {
  const recipe = await readRecipe("debian-12", recipeFolder);
  const build: ToHost = {
    kind: "image-build",
    name: "debian-12",
    recipe: recipe.digest,
    diskGiB: 8,
    files: [...recipe.files],
  };
  broker.send(build);
  const { report } = await broker.heard("image-ready", undefined, 500_000);
  expect(report).toMatchObject({ name: "debian-12", recipe: recipe.digest });
  broker.forget();
  const began = performance.now();
  broker.send(build);
  const again = await broker.heard("image-ready");
  expect(again.report.digest).toBe(report.digest);
  expect(performance.now() - began).toBeLessThan(5_000);
  image = report.digest;
});

test("H-7.8 a recipe that fails says so with its last lines", async () => {
  const broken = Buffer.from("#!/bin/sh\necho step: one\necho no such package >&2\nexit 3\n");
  const { sha256Hex } = await import("../../src/base/ids.ts");
  const file = { path: "build", mode: 0o755, sha256: sha256Hex(broken) };
  broker.send({
    kind: "image-build",
    name: "broken",
    recipe: sha256Hex("broken"),
    diskGiB: 2,
    files: [{ ...file, contentBase64: broken.toString("base64") }],
  });
  const failed = await broker.heard("image-failed");
  expect(failed.detail).toContain("no such package");
  expect(failed.detail.split("\n").at(-1)).toMatch(/exit 3: .*no such package/);
});

test("H-17.1 H-17.2 H-17.3 a node boots, shows the host key made for it, and goes without a trace", async () => {
  const key = await makeEd25519Key("test");
  const id = systemRandom.uuid4();
  broker.send({
    kind: "node-create",
    id,
    label: "worker",
    image,
    memoryMiB: 512,
    cpus: 1,
    diskGiB: 8,
    authorizedKey: `${key.publicKey} test`,
  });
  const ready = await broker.heard("node-ready", (message) => message.id === id, 240_000);
  const identityFile = join(host.state, "node.key");
  const knownHostsFile = join(host.state, "node.hosts");
  await writeFileAtomic(identityFile, key.privateKey, 0o600);
  await writeKnownHosts(knownHostsFile, { host: ready.address }, ready.hostKey);
  const target = { host: ready.address, user: "ci", identityFile, knownHostsFile };
  const said = await run("ssh", sshArgs(target, "hostname; sudo id -u; df -m / | tail -1"), {
    timeoutMs: 60_000,
  });
  expect(said.stdout).toContain(`node-${id.slice(0, 8)}\n0\n`);
  broker.send({ kind: "node-delete", id });
  await broker.heard("node-gone", (message) => message.id === id);
  const { stdout } = await run("virsh", ["-q", "-c", broker.hello!.libvirt!, "list", "--all"]);
  expect(stdout).not.toContain("node_");
});

test("H-17.1 a node of an image that is not there fails with the reason", async () => {
  const id = systemRandom.uuid4();
  broker.send({
    kind: "node-create",
    id,
    label: "worker",
    image: `sha256:${"0".repeat(64)}`,
    memoryMiB: 512,
    cpus: 1,
    diskGiB: 8,
    authorizedKey: "ssh-ed25519 AAAA test",
  });
  const failed = await broker.heard("node-failed", (message) => message.id === id);
  expect(failed.reason).toContain("image-missing");
});
