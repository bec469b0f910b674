/**
 * What a cell's libvirtd reads: libvirtd.conf and qemu.conf (te-host.md §15). Its sockets are
 * root's alone, whatever folder they lie in: who may connect may start any program as root. QEMU
 * runs as an account of its own, under a filter of system calls and with devices of its own.
 *
 * Not there, and why: AppArmor and SELinux depend on the machine's kernel, and a profile of the
 * machine's would not fit the paths of a cell; control groups of libvirt's would lie outside of
 * the cell's, where its end could not find them.
 */
import { assert } from "../base/assert.ts";

export function libvirtQemuConf(account: string): string {
  assert(/^[a-z][a-z0-9-]*$/.test(account), `not an account: ${account}`);
  return `user = "${account}"
group = "${account}"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = [ "mount" ]
seccomp_sandbox = 1
max_core = 0
stdio_handler = "file"
`;
}

export const libvirtdConf = `listen_tls = 0
listen_tcp = 0
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_ro_perms = "0700"
unix_sock_rw_perms = "0700"
unix_sock_admin_perms = "0700"
unix_sock_dir = "/run/libvirt"
log_outputs = "2:stderr"
`;
