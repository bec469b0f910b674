/** H-1.10, H-4.5: what libvirt prints about its domains and events, read. */
import { describe, expect, test } from "vitest";
import { limits } from "../base/limits.ts";
import { openDomainList, parseMark, parseNames, parseStates } from "./domain-list.ts";
import { parseLifecycle, parseMonitor } from "./event-codec.ts";
import type { Virsh } from "./virsh-pool.ts";

test("H-4.5 names and UUIDs, states, as virsh 9.0 prints them", () => {
  const uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";
  expect(parseNames(`${uuid} test\n\n`)).toEqual([{ uuid, name: "test" }]);
  expect(parseNames(`${uuid} a name with blanks\n`)[0]?.name).toBe("a name with blanks");
  const stats = [1, 3, 5, 6, 7, 99].map(
    (state) => `Domain: 'd${state}'\n  state.state=${state}\n  state.reason=0\n`,
  );
  expect(Object.fromEntries(parseStates(stats.join("\n")))).toEqual({
    d1: "on",
    d3: "paused",
    d5: "off",
    d6: "off",
    d7: "paused",
    d99: "unknown",
  });
});

test("H-3.1 a mark as libvirt gives it back", () => {
  const text = `<r:te xmlns:r="urn:rackyard:te:1" host="h" te="3" machine="n0" plan="0f"/>\n`;
  expect(parseMark(text)).toEqual({ host: "h", te: "3", machine: "n0", plan: "0f" });
  expect(parseMark(`<te xmlns="urn:rackyard:te:1" host="h" node="ab"/>`)).toEqual({
    host: "h",
    node: "ab",
  });
});

describe("H-3.5 events", () => {
  const at = "2026-11-24 08:29:16.885+0000: ";
  test.each([
    ["Started Booted", "started", "Booted"],
    ["Stopped Destroyed", "stopped", "Destroyed"],
    ["Stopped Shutdown", "stopped", "Shutdown"],
    ["Stopped Failed", "host-killed", "Failed"],
    ["Crashed Panicked", "crashed", "Panicked"],
    ["Stopped Crashed", "crashed", "Crashed"],
  ])("lifecycle %s", (text, what, detail) => {
    const line = `${at}event 'lifecycle' for domain 'seed_1': ${text}`;
    expect(parseLifecycle(line)).toEqual({ name: "seed_1", what, detail });
    expect(parseLifecycle(line.slice(at.length))).toEqual({ name: "seed_1", what, detail });
  });

  test.each([
    "event 'lifecycle' for domain 'seed_1': Shutdown Finished after guest request",
    "event 'lifecycle' for domain 'seed_1': Defined Added",
    "event 'reboot' for domain 'seed_1'",
    "events received: 1",
    "",
  ])("no change of power: %s", (line) => {
    expect(parseLifecycle(line)).toBeUndefined();
  });

  test.each([
    ["guest-reset", "guest-reset"],
    ["guest-shutdown", "guest-shutdown"],
    ["host-qmp-system-reset", "host-reset"],
    ["host-signal", "host-killed"],
    ["guest-panic", "crashed"],
  ])("QEMU's SHUTDOWN by %s", (reason, what) => {
    const line = `event SHUTDOWN at 1795508.123456 for domain 'seed_1': {"guest":true,"reason":"${reason}"}`;
    expect(parseMonitor(line)).toEqual({ name: "seed_1", what, detail: reason });
  });

  test.each([
    `event STOP at 1.2 for domain 'seed_1': (null)`,
    `event SHUTDOWN at 1.2 for domain 'seed_1': {"guest":false,"reason":"host-qmp-quit"}`,
    `event RTC_CHANGE at 1.2 for domain 'seed_1': {"offset":1}`,
  ])("QEMU's others tell nothing: %s", (line) => {
    expect(parseMonitor(line)).toBeUndefined();
  });
});

describe("issue 6 §3 a look costs two commands, however many look", () => {
  /** A libvirt of some domains that counts what it is asked. */
  function counting(domains: number) {
    const asked: string[] = [];
    const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
    let plan = "a";
    const all = Array.from({ length: domains }, (_, n) => n);
    const virsh = {
      async query(verb: string) {
        asked.push(verb);
        await Promise.resolve();
        if (verb === "list") return all.map((n) => `${uuid(n)} d${n}\n`).join("");
        if (verb === "domstats")
          return all.map((n) => `Domain: 'd${n}'\n  state.state=5\n`).join("\n");
        return `<te xmlns="urn:rackyard:te:1" host="h" te="1" machine="n0" plan="${plan}"/>`;
      },
    } as unknown as Virsh;
    return { virsh, asked, uuid, edit: (to: string) => void (plan = to) };
  }

  test("a hundred looks at once, of 100 domains: the first, and one for all the others", async () => {
    const { virsh, asked } = counting(100);
    const list = openDomainList(virsh, () => 0);
    const looks = await Promise.all(Array.from({ length: 100 }, () => list.read()));
    expect(new Set(looks.map((one) => one.length))).toEqual(new Set([100]));
    expect(asked.filter((verb) => verb === "list")).toHaveLength(2);
    expect(asked.filter((verb) => verb === "metadata")).toHaveLength(100);
  });

  test("a mark is read again when its definition changed, and after a while in any case", async () => {
    const { virsh, asked, uuid, edit } = counting(3);
    let nowMs = 0;
    const list = openDomainList(virsh, () => nowMs);
    await list.read();
    edit("b");
    expect((await list.read()).map(({ mark }) => mark?.["plan"])).toEqual(["a", "a", "a"]);
    list.forget(uuid(1));
    expect((await list.read()).map(({ mark }) => mark?.["plan"])).toEqual(["a", "b", "a"]);
    nowMs = limits.marksKeepMs;
    expect((await list.read()).map(({ mark }) => mark?.["plan"])).toEqual(["b", "b", "b"]);
    expect(asked.filter((verb) => verb === "metadata")).toHaveLength(3 + 1 + 3);
  });

  test("a failed look fails those who asked for it, and the next one looks again", async () => {
    const { virsh, asked } = counting(1);
    let broken = true;
    const list = openDomainList(
      {
        ...virsh,
        query: (...words: string[]) =>
          broken ? Promise.reject(new Error("libvirtd is away")) : virsh.query(...words),
      },
      () => 0,
    );
    const first = list.read();
    const second = list.read();
    await expect(first).rejects.toThrow("away");
    await expect(second).rejects.toThrow("away");
    broken = false;
    expect(await list.read()).toHaveLength(1);
    expect(asked).toEqual(["list", "domstats", "metadata"]);
  });
});
