/**
 * Another user of the machine finds every door shut (issue 6, section 9: "any local user is
 * root"): a walk through the state directory, /run/rackyard and the inside of the cell, by root
 * to find each file and socket, and then as `nobody`, who tries each. One installation lies where
 * its sockets fit, one where they have to move out of the state directory.
 */
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { plainEnv, run } from "../../src/base/command.ts";
import type { CommandResult } from "../../src/base/command.ts";
import { cellPlaces } from "../../src/hypervisor/cell-paths.ts";
import { readCell, runInCell } from "../../src/hypervisor/cell.ts";
import type { Cell } from "../../src/hypervisor/cell.ts";
import { publicAddressFile } from "../../src/cli/context.ts";
import { placesOf } from "../../src/main/places.ts";

const entry = fileURLToPath(new URL("../../src/main/rackyard.ts", import.meta.url));
const flags = ["--disable-sigusr1", "--disable-warning=ExperimentalWarning", entry];
const asNobody = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"];

/** Finds all below the places named, as whoever runs it; a line `kind path` each. */
const find = `
import os, stat, sys
for top in sys.argv[1:]:
    for here, folders, files in os.walk(top):
        for name in [""] + files:
            path = os.path.join(here, name) if name else here
            try: mode = os.lstat(path).st_mode
            except OSError: continue
            kind = "socket" if stat.S_ISSOCK(mode) else "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else None
            if kind: print(kind, path)
`;

/** Tries each of stdin's lines: connects to a socket, opens a file, lists a folder. */
const attempt = `
import os, socket, sys
for line in filter(str.strip, sys.stdin):
    kind, path = line.rstrip("\\n").split(" ", 1)
    try:
        if kind == "folder": os.listdir(path)
        elif kind == "file": open(path, "rb").close()
        elif path.startswith("@"):
            with socket.socket(socket.AF_UNIX) as s: s.connect("\\0" + path[1:])
        else:
            try:
                with socket.socket(socket.AF_UNIX) as s: s.connect(path)
            except OSError as error:
                if error.errno != 91: raise
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s: s.connect(path)
        print(kind, path)
    except PermissionError: pass
    except OSError as error: print(kind, path, error.strerror) if error.errno not in (2, 20, 111) else None
`;

type Installation = {
  readonly state: string;
  cell: Cell;
  cli: (...words: string[]) => Promise<CommandResult>;
};

async function install(state: string, read: "loopback" | "off"): Promise<Installation> {
  const cli = (...words: string[]): Promise<CommandResult> =>
    run(process.execPath, [...flags, ...words, "--state", state], {
      env: plainEnv(),
      accept: "any",
      timeoutMs: 240_000,
    });
  const settings = [
    `server.anonymousRead=${read}`,
    'server.listen=["127.0.0.1:0"]',
    "teHost.carve.max=1",
    "nodes.labels.worker={ image: debian-12, minReady: 0 }",
  ];
  begun.push(cli); // one whose `up` fails is ended too
  const up = await cli("up", "--detach", ...settings.flatMap((one) => ["--set", one]));
  expect(up.exitCode, up.stderr).toBe(0);
  const cell = await readCell(state);
  return { state, cell: cell!, cli };
}

let root: string;
const installations: Installation[] = [];
const begun: Installation["cli"][] = [];
beforeAll(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "closed-")));
  await chmod(root, 0o755); // the way to the state directory is open
  const far = join(root, "a-long-name-".repeat(6));
  await mkdir(far, { mode: 0o755 });
  installations.push(await install(join(root, "near"), "loopback"));
  installations.push(await install(join(far, "state"), "off"));
});
afterAll(async () => {
  for (const cli of begun) await cli("down", "--purge");
  await rm(root, { recursive: true, force: true });
});

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");

describe.each([0, 1])("installation %i", (index) => {
  const it = (): Installation => installations[index]!;

  test("its state directory is root's alone", async () => {
    expect((await stat(it().state)).mode & 0o777).toBe(0o700);
    const sockets = cellPlaces(it().state).sockets;
    expect(sockets.startsWith(it().state)).toBe(index === 0);
  });

  test("on the machine nothing of it can be read or connected to", async () => {
    const tops = [it().state, "/run/rackyard"];
    const found = (await run("/usr/bin/python3", ["-c", find, ...tops])).stdout;
    const sockets = lines(found).filter((line) => line.startsWith("socket "));
    expect(sockets.join()).toContain("libvirt-sock");
    expect(sockets.join()).toContain("db.sock");
    expect(sockets.join()).toContain("api.sock");
    expect(lines(found).length).toBeGreaterThan(40);
    const abstract = lines(await readFile("/proc/net/unix", "utf8")).flatMap((line) => {
      const name = line.split(/\s+/)[7] ?? "";
      return /^@.*(rackyard|libvirt|openvswitch)/i.test(name) ? [`socket ${name}`] : [];
    });
    const tried = await run("setpriv", [...asNobody, "/usr/bin/python3", "-c", attempt], {
      stdin: [found, ...abstract, ""].join("\n"),
    });
    const others = lines(tried.stdout).filter(
      (line) => !allowedOutside.some(([pattern]) => pattern.test(line)),
    );
    expect(others).toEqual([]);
  });

  test("server.anonymousRead: off shuts the pages, the API and the state files to all", async () => {
    const { state } = it();
    const ready = JSON.parse(await readFile(join(state, "run/ready.json"), "utf8")) as {
      api: string;
    };
    const answer = await fetch(`${ready.api}/v1/builds`);
    expect(answer.status).toBe(index === 0 ? 200 : 401);
    const address = publicAddressFile(state);
    const there = await readFile(address, "utf8").catch(() => undefined);
    expect(there).toBe(index === 0 ? `${JSON.stringify({ api: ready.api })}\n` : undefined);
    const status = [process.execPath, ...flags, "status", "--state", state];
    const asked = await run("setpriv", [...asNobody, ...status], {
      accept: "any",
      env: plainEnv(),
    });
    expect([asked.exitCode, asked.stderr]).toEqual(
      index === 0 ? [0, ""] : [77, expect.stringContaining("may not be read")],
    );
  });

  test("every socket's own mode is closed too, whatever folder it lies in", async () => {
    const tops = [it().state, cellPlaces(it().state).sockets, placesOf(it().state).sockets];
    const found = lines((await run("/usr/bin/python3", ["-c", find, ...tops])).stdout);
    for (const line of found.filter((one) => one.startsWith("socket "))) {
      const path = line.slice("socket ".length);
      expect(`${path} ${((await stat(path)).mode & 0o007).toString(8)}`).toBe(`${path} 0`);
    }
  });

  test("virsh as nobody is refused, on each of libvirt's sockets; as root it is not", async () => {
    const folder = join(cellPlaces(it().state).sockets, "libvirt");
    for (const name of ["libvirt-sock", "libvirt-sock-ro"]) {
      const uri = `qemu+unix:///system?socket=${join(folder, name)}`;
      const virsh = ["virsh", "-q", "-c", uri, "list", "--all"];
      const refused = await run("setpriv", [...asNobody, ...virsh], {
        accept: "any",
        env: plainEnv({ HOME: "/nonexistent" }),
      });
      expect(refused.stderr).toMatch(/Permission denied/);
      expect(refused.exitCode).not.toBe(0);
      expect((await run("virsh", virsh.slice(1))).stdout).toContain("seed_1");
    }
  });

  test("inside of the cell an account that is not root's finds only what gate and QEMU need", async () => {
    const { cell, state } = it();
    const tops = ["/run", state, "/var/lib/libvirt", "/etc/libvirt", "/var/log/libvirt"];
    const pruned = find.replace(
      "for name in",
      "folders[:] = [f for f in folders if os.path.join(here, f) != '/run/rackyard-machine-etc']\n        for name in",
    );
    const found = (await runInCell(cell, "/usr/bin/python3", ["-c", pruned, ...tops])).stdout;
    expect(lines(found)).toContain("socket /run/libvirt/libvirt-sock");
    const tried = await runInCell(
      cell,
      "setpriv",
      [...asNobody, "/usr/bin/python3", "-c", attempt],
      {
        stdin: found,
      },
    );
    const others = lines(tried.stdout).filter(
      (line) => !allowedInside.some(([pattern]) => pattern.test(line)),
    );
    expect(others).toEqual([]);
  });
});

/** What another user of the machine may reach, and why. */
const allowedOutside: readonly (readonly [RegExp, string])[] = [
  [/^folder \/run\/rackyard$/, "the folder that the machine's installations share"],
  [/^file \/run\/rackyard\/network\.lock$/, "pid and start of who chooses a network: no secret"],
  [/^(file|folder) \/run\/rackyard\/servers(\/[0-9a-f]{16}\.json)?$/, "where readers find servers"],
];

/** What a gate's account may reach in the cell, and why. */
const allowedInside: readonly (readonly [RegExp, string])[] = [
  [/^folder \/run(\/lock|\/sshd|\/rackyard|\/rackyard-console)?$/, "names without content"],
  [/^file \/run\/rackyard-cell$/, "the cell's id"],
  [/^file \/run\/rackyard\/network\.lock$/, "as on the machine"],
  [/^(file|folder) \/run\/rackyard\/servers(\/[0-9a-f]{16}\.json)?$/, "as on the machine"],
  [/^folder \/run\/rackyard-gate(\/(bin|keys|home|sockets))?$/, "sshd's own look as the account"],
  [/^file \/run\/rackyard-gate\/bin\/(node|te-shell\.mts)$/, "the gate's program"],
  [
    /^file \/run\/rackyard-gate\/keys\/te(\d+|-probe)$/,
    "public keys, which sshd reads as the account",
  ],
  [/^file \/run\/rackyard-gate\/world$/, "a random name of this boot and cell"],
  [/^(file|folder) \/run\/rackyard-etc(\/(passwd|group|nsswitch\.conf))?$/, "the cell's /etc"],
  [/^folder \/run\/rackyard-guests$/, "names of three folders"],
  [/^folder \/run\/rackyard-etc\/libvirt$/, "an empty mount point; the mount is closed"],
];
