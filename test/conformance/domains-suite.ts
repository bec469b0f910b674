/**
 * How domains behave, whatever libvirt is behind (H-4.7): the same suite runs on libvirt's test
 * driver and on a real libvirtd, inside of a `describe`. Takes the port's calls, and a spec that
 * may be started.
 */
import { expect, test } from "vitest";
import type { Domains, DomainSpec } from "../../src/hypervisor/hypervisor-port.ts";

type Calls = Omit<
  Domains,
  "digest" | "lastList" | "watch" | "processesOf" | "shutdown" | "reset"
> & {
  digest(spec: DomainSpec): string | Promise<string>;
};

export function testDomains(given: {
  readonly domains: () => Calls;
  readonly spec: () => DomainSpec;
  /** Another way to the same libvirt, as an agent started again has. */
  readonly again?: () => Calls;
  /** The definition that the next start takes, as XML. */
  readonly inactiveXml: (uuid: string) => Promise<string>;
  readonly liveXml: (uuid: string) => Promise<string>;
}): void {
  const find = async (calls: Calls, uuid: string) =>
    (await calls.list()).find((each) => each.uuid === uuid);

  test("H-1.3 a definition is as planned, and defining it again changes nothing", async () => {
    const [domains, spec] = [given.domains(), given.spec()];
    await domains.define(spec);
    await domains.define(spec);
    const all = (await domains.list()).filter((each) => each.name === spec.name);
    const plan = await domains.digest(spec);
    expect(all).toEqual([
      { name: spec.name, uuid: spec.uuid, power: "off", mark: spec.mark, plan },
    ]);
  });

  test("H-3.1 drift is seen by the digest, and mended by defining", async () => {
    const [domains, spec] = [given.domains(), given.spec()];
    const other = { ...spec, memoryMiB: spec.memoryMiB + 64 };
    await domains.define(other);
    const plan = await domains.digest(spec);
    expect((await find(domains, spec.uuid))?.plan).not.toBe(plan);
    await domains.define(spec);
    expect((await find(domains, spec.uuid))?.plan).toBe(plan);
  });

  test("H-8.2 a definition that was changed past us is seen, though our mark on it stays", async () => {
    const [domains, spec] = [given.domains(), given.spec()];
    await domains.define(spec);
    const good = await domains.look(spec);
    expect(good).toMatchObject({ media: [], nvram: null, unlike: [] });
    const nic = spec.nics[0]!;
    const other = {
      ...spec,
      memoryMiB: spec.memoryMiB + 64,
      nics: [{ ...nic, mac: "00:11:22:33:44:55" }],
    };
    const bad = await domains.look(other);
    expect(bad.unlike).toEqual(expect.arrayContaining(["memoryMiB", "nics"]));
    expect(bad.definition).toBe(good.definition);
  });

  test("H-3.7 power on and off; what already holds is content", async () => {
    const [domains, { uuid }] = [given.domains(), given.spec()];
    expect(await domains.start(uuid)).toBe("started");
    expect(await domains.start(uuid)).toBe("was-on");
    expect((await find(domains, uuid))?.power).toBe("on");
    expect(await domains.destroy(uuid)).toBe("destroyed");
    expect(await domains.destroy(uuid)).toBe("was-off");
    expect((await find(domains, uuid))?.power).toBe("off");
  });

  test("H-3.3 Once changes the start alone; the definition stays, the next start is normal", async () => {
    const [domains, spec] = [given.domains(), given.spec()];
    await domains.startOnce(spec, "cdrom");
    expect((await find(domains, spec.uuid))?.power).toBe("on");
    expect(await given.liveXml(spec.uuid)).toContain("<on_reboot>destroy</on_reboot>");
    expect(await given.inactiveXml(spec.uuid)).toContain("<on_reboot>restart</on_reboot>");
    await expect(domains.startOnce(spec, "cdrom")).rejects.toThrow(/conflict|already/);
    await domains.destroy(spec.uuid);
    const plan = await domains.digest(spec);
    expect(await find(domains, spec.uuid)).toMatchObject({ power: "off", plan });
    await domains.start(spec.uuid);
    expect(await given.liveXml(spec.uuid)).toContain("<on_reboot>restart</on_reboot>");
    await domains.destroy(spec.uuid);
  });

  test("H-1.10 adoption: ours are known by their mark, running or not; a stranger's is not ours", async () => {
    const [domains, spec] = [given.domains(), given.spec()];
    const host = "f0000000-0000-4000-8000-00000000000f";
    const uuid = "f0000000-0000-4000-8000-0000000000ff";
    const foreign: DomainSpec = {
      ...spec,
      uuid,
      name: "stranger",
      mark: { kind: "node", host, node: "00" },
      nics: [],
    };
    await domains.define(foreign);
    await domains.start(spec.uuid);
    const found = await (given.again?.() ?? domains).list();
    expect(found.find((each) => each.uuid === spec.uuid)).toMatchObject({
      power: "on",
      mark: spec.mark,
    });
    expect(found.find((each) => each.uuid === uuid)).toMatchObject({ mark: null, plan: null });
    await domains.undefine(uuid);
    await domains.destroy(spec.uuid);
  });

  test("H-4.1 a domain that is not there: start fails, undefine is content", async () => {
    const [domains, { uuid }] = [given.domains(), given.spec()];
    await domains.start(uuid);
    await domains.undefine(uuid);
    await domains.undefine(uuid);
    expect(await find(domains, uuid)).toBeUndefined();
    await expect(domains.start(uuid)).rejects.toThrow(/not-found|failed to get domain/);
  });
}
