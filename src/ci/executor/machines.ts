/**
 * `machines.json` (surface.md §10): which machines the job has brought up and how to reach them,
 * and the commands that bring their logs home through the node. The job wrote it, so each field
 * is checked before it comes near a command line. Pure.
 */
import { z } from "zod";
import { shellQuote as q } from "./shell-words.ts";

const name = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/i, "must be a name");
const address = z.string().regex(/^[0-9a-f.:]+$|^[a-z0-9][a-z0-9.-]*$/i, "must be an address");
const user = z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/i, "must be a user");
const path = z.string().regex(/^\/[A-Za-z0-9._/-]+$/, "must be an absolute path");

export const machineSchema = z.object({
  name,
  address,
  user: user.default("root"),
  identity: path.optional(),
  via: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}@[a-z0-9.:-]+$/i, "must be user@address")
    .optional(),
});
export type Machine = z.output<typeof machineSchema>;

/** At most so many machines are collected: a rack has 16. */
const MACHINES = 64;

/** The machines of a file, and what is wrong with it; a wrong entry does not spoil the others. */
export function parseMachines(text: string): { machines: Machine[]; faults: string[] } {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (error) {
    return { machines: [], faults: [`machines.json is no JSON: ${String(error)}`] };
  }
  if (!Array.isArray(list)) return { machines: [], faults: ["machines.json is no list"] };
  const machines: Machine[] = [];
  const faults: string[] = [];
  for (const [index, entry] of list.slice(0, MACHINES).entries()) {
    const parsed = machineSchema.safeParse(entry);
    if (parsed.success) machines.push(parsed.data);
    else {
      const issue = parsed.error.issues[0];
      faults.push(`machines.json[${index}].${issue?.path.join(".") ?? ""}: ${issue?.message}`);
    }
  }
  if (list.length > MACHINES)
    faults.push(`machines.json: only the first ${MACHINES} are collected`);
  return { machines, faults };
}

/** What runs on the node: an ssh to the machine that reads collectScript on its stdin. */
export function machineCommand(machine: Machine): string {
  const options = [
    "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
    "-o LogLevel=ERROR -o ConnectTimeout=20",
    machine.identity === undefined ? "" : `-o IdentitiesOnly=yes -i ${q(machine.identity)}`,
  ].join(" ");
  const proxy =
    machine.via === undefined
      ? ""
      : `-o ${q(`ProxyCommand=ssh ${options} -W %h:%p ${machine.via}`)}`;
  return `exec ssh ${options} ${proxy} ${q(`${machine.user}@${machine.address}`)} sh -s`;
}

/**
 * Runs on the machine, whatever shell and tar it has: host facts, then one tarball of /var/log,
 * /etc without secrets, and the facts, on stdout. busybox's tar knows neither --exclude nor -T:
 * there the files are named one by one. A file of more than 64 MiB (what a machine's tarball may
 * have) is left out before it is read, and named.
 */
export const collectScript = `facts=/tmp/host-info; rm -rf $facts; mkdir -p $facts
for command in "ps" "df -P" "mount" "ip addr" "ip route" "free" "dmesg" "netstat -ln"; do
  $command >"$facts/$(echo $command | tr ' ' _).txt" 2>&1
done
cp /proc/version /proc/cmdline /proc/meminfo /proc/cpuinfo $facts/ 2>/dev/null
cd / || exit 1
set --
for path in var/log etc tmp/host-info; do [ -e "$path" ] && set -- "$@" "$path"; done
# /var/log/lastlog of a machine with large user ids: gigabytes of zeros, none of them on disk
find "$@" -type f -size +65536k >$facts/left-out.txt 2>/dev/null
secret='/shadow|/gshadow|/passwd-|/ssh_host_[a-z0-9]*_key$|/dropbear/|/ssl/private/|/sudoers'
secret="$secret|[.]key$|[.]pem$|/id_[a-z0-9]*$"
if tar --version 2>/dev/null | grep -q GNU; then
  find "$@" ! -type d ! -type s ! -size +65536k 2>/dev/null | grep -Ev "$secret" |
    exec tar -czf - --no-recursion --ignore-failed-read -T - 2>/dev/null
else
  IFS='
'
  exec tar -czf - $(find "$@" ! -type d ! -size +65536k 2>/dev/null | grep -Ev "$secret") 2>/dev/null
fi
`;
