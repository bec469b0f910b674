/**
 * The machine changes under a lease (issue 6, section 3): accounts, packages, names and mounts, in
 * a mount namespace with copies of what is changed, so that the machine itself stays as it is.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { plainEnv, run } from "../../src/base/command.ts";

const entry = fileURLToPath(new URL("../../src/main/rackyard.ts", import.meta.url));

/** $1: work folder; the rest: the program. Installs, leases, and runs `inside` with the lease. */
const outside = `
set -u
work=$1; shift
mount --make-rprivate /
for folder in /etc /usr/sbin; do
  mkdir -p "$work$folder"; cp -a $folder/. "$work$folder/"; mount --bind "$work$folder" $folder
done
export RACKYARD_STATE=$work/state WORK=$work
"$@" up --detach --set nodes.labels.worker.minReady=0 --set teHost.carve.max=1 >"$work/up" 2>&1 ||
  { cat "$work/up"; exit 2; }
"$@" lease --for 5m -- bash "$work/inside" 2>"$work/said" || cat "$work/said"
"$@" status --json >"$work/status"; grep -o '"health":"[a-z]*"' "$work/status"
"$@" down --purge >/dev/null 2>&1
umount /etc /usr/sbin
`;

/** Changes one thing after another; each time a line with the milliseconds of a login. */
const inside = `
set -u
gate=$(python3 -c 'import json,os; d=json.load(open(os.environ["TE_DATAFILE"])); print(d["ssh-user"]+"@"+d["host-ip"])')
login() {
  local began=$(date +%s%N)
  if ssh "$gate" virsh list --all >/dev/null; then echo "$1 $((($(date +%s%N) - began) / 1000000))"
  else echo "$1 refused"; fi
}
renew() { cp -a "$1" "$1.new" && mv "$1.new" "$1"; }
login nothing
useradd -r case-somebody;                 login useradd
groupadd -r case-group;                   login groupadd
renew /etc/shadow; renew /etc/nsswitch.conf; login shadow
for name in sshd libvirtd ovs-vswitchd dnsmasq; do renew "$(readlink -f /usr/sbin/$name)"; done 2>/dev/null
                                          login packages
echo 'nameserver 203.0.113.1' >/etc/resolv.new; mv /etc/resolv.new /etc/resolv.conf; login resolv.conf
hostname case-other;                      login hostname
umount -l /sys/fs/cgroup/unified 2>/dev/null; umount -R -l /sys/fs/cgroup 2>/dev/null; login cgroup
sleep 31;                                 login pass
`;

test("each change, and the gate lets the holder in as before", { timeout: 400_000 }, async () => {
  const work = await mkdtemp(join(tmpdir(), "changes-"));
  try {
    await writeFile(join(work, "inside"), inside);
    const program = [process.execPath, "--disable-warning=ExperimentalWarning", entry];
    const words = ["-m", "-u", "bash", "-c", outside, "outside", work, ...program];
    const told = await run("unshare", words, {
      accept: "any",
      env: plainEnv(),
      timeoutMs: 380_000,
    });
    const lines = told.stdout
      .trim()
      .split("\n")
      .map((line) => line.split(" "));
    const changes = "useradd groupadd shadow packages resolv.conf hostname cgroup pass".split(" ");
    expect(
      lines.map(([what]) => what),
      told.stdout + told.stderr,
    ).toEqual(["nothing", ...changes, '"health":"ok"']);
    // A login costs what it costs here; the change may add nothing that one would notice.
    const limitMs = Math.max(1_000, Number(lines[0]![1]) * 3);
    for (const [what, ms] of lines.slice(1, -1)) {
      expect(Number(ms), `${what}: ${ms} ms`).toBeLessThan(limitMs);
    }
  } finally {
    await rm(work, { recursive: true, force: true });
  }
});
