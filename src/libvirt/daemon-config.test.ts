/** Issue 6, section 9: whoever reaches a socket of libvirt is root; QEMU is not. */
import { expect, test } from "vitest";
import { libvirtdConf, libvirtQemuConf } from "./daemon-config.ts";

const settings = (text: string): Map<string, string> =>
  new Map(
    text
      .split("\n")
      .filter(Boolean)
      .map((line) => line.split(" = ") as [string, string]),
  );

test("each of libvirtd's sockets is root's alone, and none listens on a network", () => {
  const conf = settings(libvirtdConf);
  for (const socket of ["ro", "rw", "admin"]) {
    expect(conf.get(`unix_sock_${socket}_perms`)).toBe('"0700"');
  }
  expect([conf.get("listen_tls"), conf.get("listen_tcp")]).toEqual(["0", "0"]);
});

test("QEMU runs as the account given, filtered, with its own /dev, and leaves no memory behind", () => {
  const conf = settings(libvirtQemuConf("rackyard-qemu"));
  expect([conf.get("user"), conf.get("group")]).toEqual(['"rackyard-qemu"', '"rackyard-qemu"']);
  expect(conf.get("seccomp_sandbox")).toBe("1");
  expect(conf.get("namespaces")).toBe('[ "mount" ]');
  expect(conf.get("max_core")).toBe("0");
  expect(() => libvirtQemuConf('x"\nuser = "root')).toThrow("not an account");
});
