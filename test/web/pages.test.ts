/**
 * The pages in a real browser (Debian's Chromium): what people see of a build that failed, runs
 * or waits; that it can be used without a mouse; and that axe finds nothing to complain about.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "@playwright/test";
import type { Browser, Page } from "@playwright/test";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openApi } from "../../src/api/server.ts";
import type { Api } from "../../src/api/server.ts";
import { silentLog } from "../../src/base/log.ts";
import { ids } from "../scenarios/api-views.ts";
import { running, sampleYard, waitingBuild } from "./sample-yard.ts";

let directory: string;
let api: Api;
let browser: Browser;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pages-"));
  api = await openApi(apiOptions());
  browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox"], // as root there is no other way
  });
});
afterAll(async () => {
  await browser?.close();
  await api?.close();
  await rm(directory, { recursive: true, force: true });
});

function apiOptions() {
  return {
    views: sampleYard(directory),
    answers: { find: () => Promise.resolve(undefined), keep: () => Promise.resolve() },
    log: silentLog,
    version: "0.1.0",
    listen: ["127.0.0.1:0"],
    socketPath: join(directory, "api.sock"),
    anonymousRead: true,
    hostNames: [],
    insecure: false,
  };
}

async function visit(
  path: string,
  look: { width?: number; dark?: boolean } = {},
): Promise<{ page: Page; faults: string[] }> {
  const context = await browser.newContext({
    viewport: { width: look.width ?? 1280, height: 900 },
    colorScheme: look.dark ? "dark" : "light",
  });
  const page = await context.newPage();
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") faults.push(message.text());
  });
  await page.goto(`${api.urls[0]}${path}`);
  await page.locator("h1").waitFor();
  return { page, faults };
}

const pages = {
  yard: "/",
  failed: `/builds/${ids.build}`,
  running: `/builds/${running}`,
  waiting: `/builds/${waitingBuild}`,
  change: "/changes/1",
  changes: "/changes?status=NEW",
  builds: "/builds?result=FAILURE",
  racks: "/racks",
  leases: "/leases?state=active",
};
const looks = Object.entries(pages).flatMap(([name, path]) =>
  [
    { width: 1280, dark: false },
    { width: 1280, dark: true },
    { width: 390, dark: false },
  ].map((look) => ({ name, path, ...look })),
);

test.each(looks)("issue 3 §3 $name, $width px, dark $dark: accessible, no faults", async (look) => {
  const { page, faults } = await visit(look.path, look);
  const follows = !look.path.includes("?") && look.path !== "/racks";
  if (follows) await page.locator(".live[data-state=live]").waitFor();
  const found = await new AxeBuilder({ page: page as never }).analyze();
  const told = found.violations.map(({ id, nodes }) => `${id}: ${nodes[0]?.html.slice(0, 200)}`);
  expect(told).toEqual([]);
  expect(faults).toEqual([]);
  const [content, screen] = await page.evaluate<number[]>(
    "[document.documentElement.scrollWidth, window.innerWidth]",
  );
  expect(content).toBeLessThanOrEqual(screen!);
  await page.context().close();
});

test("L-4 evidence leads to its line in the console it was found in", async () => {
  const { page } = await visit(pages.failed);
  const cause = page.locator("#evidence .quoted .cause");
  expect(await cause.textContent()).toMatch(/^118.*Kernel panic/);
  expect(await page.locator("#evidence .quoted .row").count()).toBe(4);
  await page.getByRole("link", { name: "rack/console-te1-n0.log, line 118" }).focus();
  await page.keyboard.press("Enter");
  const hit = page.locator("#file .hit");
  await hit.waitFor();
  expect(await hit.textContent()).toContain("Kernel panic");
  expect(await hit.getAttribute("data-n")).toBe("118");
  await page.getByRole("button", { name: "close" }).press("Enter");
  await page.locator("#file .screen").waitFor({ state: "detached" });
  await page.context().close();
});

test("surface.md §5 the console comes line by line, with its colours and without their codes", async () => {
  const { page } = await visit(pages.running);
  await page.locator("#console [data-n='8']").waitFor();
  const line = page.locator("#console [data-n='4']");
  expect(await line.locator(".t").textContent()).toBe("seed image: 18.2 MiB in 9.1 s");
  expect(await line.locator("span.a2").count()).toBe(1);
  expect(await page.locator("#console").textContent()).toContain("follow");
  expect(await page.locator("#steps .now").count()).toBe(1);
  await page.context().close();
});

test("issue 3 §3 a build that waits says why; one that is not there says so", async () => {
  const waiting = await visit(pages.waiting);
  await waiting.page.getByText("here:1 is held by deploy of 1,2").waitFor();
  await waiting.page.context().close();
  const none = await visit(`/builds/${ids.nothing}`);
  expect(await none.page.locator("h1").textContent()).toBe("Not here");
  await none.page.context().close();
});

test("issue 6 §10 the first digits of an id are an address, and links use eight", async () => {
  const { page, faults } = await visit(`/builds/${ids.build.slice(0, 8)}`);
  await page.locator("#evidence .quoted").waitFor();
  expect(faults).toEqual([]);
  await page.goto(`${api.urls[0]}/builds`);
  const links = page.locator("tbody a[href^='/builds/']");
  await links.first().waitFor();
  for (const link of await links.all()) {
    expect(await link.getAttribute("href")).toMatch(/^\/builds\/[0-9a-f]{8}$/);
  }
  await page.context().close();
});

test("issue 6 §10 a list's filters and page stand in its address", async () => {
  const { page } = await visit("/builds?result=FAILURE");
  expect(await page.locator("#filter-result").inputValue()).toBe("FAILURE");
  await page.locator("#filter-job").fill("deploy-large");
  await page.keyboard.press("Enter");
  await page.waitForURL(/job=deploy-large/);
  expect(new URL(page.url()).searchParams.get("result")).toBe("FAILURE");
  await page.locator("#filter-result").selectOption("");
  await page.waitForURL((url) => !url.searchParams.has("result"));
  await page.locator("tbody tr").first().waitFor();
  expect(await page.locator("tbody tr").count()).toBe(1);
  await page.context().close();
});

test("issue 6 §10 a vote is told by its sign also at 390 px", async () => {
  const { page } = await visit("/changes", { width: 390 });
  const vote = page.locator("tbody tr").first().locator(".word");
  expect((await vote.innerText()).trim()).toMatch(/^[+−][12]$/);
  await page.context().close();
});

test("issue 6 §10 an address that nothing has answers 404, as a page to browsers alone", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const answer = await page.goto(`${api.urls[0]}/nothing/here`);
  expect(answer?.status()).toBe(404);
  expect(await page.locator("h1").textContent()).toBe("Not found");
  await context.close();
  const program = await fetch(`${api.urls[0]}/nothing/here`);
  expect(program.status).toBe(404);
  expect(await program.json()).toMatchObject({ code: "not-found" });
});

test("issue 6 §10 where reading needs a token, one typed becomes a cookie: logs open by links", async () => {
  const closed = await openApi({
    ...apiOptions(),
    socketPath: join(directory, "closed.sock"),
    anonymousRead: false,
  });
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${closed.urls[0]}${pages.failed}`);
    await page.locator("#token").fill("ry_wrong");
    await page.keyboard.press("Enter");
    await page.getByText("this token is not known here").waitFor();
    await page.locator("#token").fill("ry_reader");
    await page.keyboard.press("Enter");
    await page.locator("#steps li").first().waitFor();
    const [cookie] = await context.cookies();
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict", path: "/" });
    await page.getByRole("link", { name: "rack/certificate.json" }).waitFor();
    const logs = await page.goto(`${closed.urls[0]}/logs/any/console.log`);
    expect(logs?.status()).toBe(200);
    await context.close();
  } finally {
    await closed.close();
  }
});
