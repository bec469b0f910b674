#!/bin/bash
# The job: builds the images from the repositories under test, boots a whole rack with them, and fails unless every
# machine comes up and is what the rack's data say.
#   in   TE_DATAFILE                            the rack: written by the CI system, or by `rackyard lease -- run.sh`
#        DIB_REPOLOCATION_tinyrack_seed, _node  the repositories under test (default: the folders beside this one)
#        WORKSPACE                              where to work (default: a new folder under /tmp)
#   out  $WORKSPACE/machines.json               who the machines are, so that their logs can be collected
#        $WORKSPACE/logs/                       what is kept; secrets lie in $WORKSPACE/private
set -euo pipefail
PATIENCE=${TINYRACK_PATIENCE:-1}                # factor on the limits below, for slow machines
SEED_LIMIT=$((60 * PATIENCE))                   # seconds from its start until the seed answers
MACHINE_LIMIT=$((90 * PATIENCE))                # seconds from power-on until all machines have reported
MAX_BOOTS=3                                     # a machine that boots so often without a report is in a boot loop

start=${EPOCHREALTIME/[.,]/}                    # microseconds
say() { printf '%6.1f s  %s\n' "$((${EPOCHREALTIME/[.,]/} - start))e-6" "$*"; }
die() { echo "run.sh: $*" >&2; exit 1; }

# --- 1. what is there to work with
PATH=$PATH:/usr/sbin:/sbin
[ -r "${TE_DATAFILE:-}" ] || die "TE_DATAFILE does not name a readable file: run me as a job, or by: rackyard lease -- $0"
missing=()
while read -r program package; do command -v "$program" >/dev/null || missing+=("$package"); done <<'TOOLS'
jq jq
curl curl
ssh openssh-client
busybox busybox-static
dropbear dropbear-bin
dnsmasq dnsmasq-base
cpio cpio
mcopy mtools
mkfs.vfat dosfstools
syslinux syslinux
TOOLS
[ ${#missing[@]} = 0 ] || die "programs are missing: apt-get install ${missing[*]}"
! ldd "$(command -v busybox)" >/dev/null 2>&1 || die "busybox needs libraries, this one does not: apt-get install busybox-static"
here=$(cd "$(dirname "$0")" && pwd)
seed_repo=${DIB_REPOLOCATION_tinyrack_seed:-$here/../tinyrack-seed}
node_repo=${DIB_REPOLOCATION_tinyrack_node:-$here/../tinyrack-node}
WORKSPACE=$(realpath -m "${WORKSPACE:-$(mktemp -d /tmp/tinyrack.XXXXXX)/workspace}")
logs=$WORKSPACE/logs private=$WORKSPACE/private images=$WORKSPACE/images
rm -rf "$private"; mkdir -p "$logs" "$images"; mkdir -m 700 "$private"

# --- 2. the rack: one account on its host, one seed, machines that are off
facts=$(jq -r 'def need($key): .[$key] // error("\($key) is missing");
  @sh "N=\(need("env-num")) host=\(need("host-ip")) port=\(."ssh-port" // "22") user=\(need("ssh-user")) key=\(need("ssh-key"))",
  @sh "host_key=\(need("ssh-host-key")) seed=\(need("seed-ip")) count=\(need("nodes") | length)"' "$TE_DATAFILE") ||
  die "TE_DATAFILE does not hold the data of a rack"
eval "$facts"
(umask 077; echo "$key" >"$private/gate"; echo "te-host $host_key" >"$private/known_hosts")
gate() {                                        # one of the few things that the rack's host lets us do
  ssh -i "$private/gate" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 -o LogLevel=ERROR -o HostKeyAlias=te-host \
    -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$private/known_hosts" -p "$port" "$user@$host" "$@" >>"$logs/gate.log" 2>&1
}
refused() { die "$1: $(grep . "$logs/gate.log" | tail -n 1)"; }
say "rack $N of $host: a seed and $count machines"

# --- 3. images, from the repositories under test; whoever has this run's key may log in to what boots them
ssh-keygen -q -t ed25519 -N '' -C tinyrack -f "$private/rack"
KERNEL_DIR=$("$here/kernel"); AUTHORIZED_KEY=$private/rack.pub; export KERNEL_DIR AUTHORIZED_KEY
"$node_repo/build" "$images/node.ird" || die "tinyrack-node does not build"
"$seed_repo/build" "$images/seed.img" "$images/node.ird" || die "tinyrack-seed does not build"
say "images built: the seed's has $(stat -c %s "$images/seed.img") bytes"

# --- 4. the seed
dd if="$images/seed.img" bs=1M status=none | gate copyseed "$N" || refused "the rack's host did not take the seed's image"
say "image copied"
gate virsh start "seed_$N" || refused "the seed does not start"
say "seed started"
fetch() { curl -sf --connect-timeout 1 -m 10 -o "$logs/$1" "http://$seed/$2"; }
end=$((SECONDS + SEED_LIMIT))
until fetch registry.jsonl registry.jsonl; do
  [ $SECONDS -lt $end ] || die "the seed does not answer at $seed within $SEED_LIMIT s: see its serial console"
  sleep 0.5
done
trap 'fetch dnsmasq.log dnsmasq.log || true' EXIT          # what the seed saw, however this ends
say "seed answers"

# --- 5. the machines: what each has reported, and how often it booted
look() {                                        # the seed's registry -> logs/machines.json, machines.json; sets up, loops, events
  local all known
  { read -r all; read -r known; read -r events up loops; } < <(jq -rs --slurpfile te "$TE_DATAFILE" --arg seed "$seed" \
    --arg identity "$private/rack" --arg N "$N" --argjson max $MAX_BOOTS '
    def of($mac; $event): map(select(.mac == $mac and .event == $event));
    . as $events | [$te[0].nodes | to_entries[] | .key as $i | .value | .mac[0] as $mac |
      { name: (.name // "te\($N)-n\($i)"), $mac, memory: (.memory | tonumber), disk: (.disk | tonumber),
        boots: ($events | of($mac; "boot") | length), report: ($events | of($mac; "report") | last) }] as $all |
    ($all | tojson),
    ([{ name: "te\($N)-seed", address: $seed, user: "root", $identity },
      ($all[] | select(.report) | { name, address: .report.address, user: "root", $identity, via: "root@\($seed)" })] | tojson),
    "\($events | length) \($all | map(select(.report)) | length) " +
      ($all | map(select(.report == null and .boots >= $max) | .name) | join(" "))' "$logs/registry.jsonl") || die "the seed's registry is not readable: $logs/registry.jsonl"
  echo "$all" >"$logs/machines.json"
  echo "$known" >"$private/machines.json"; mv "$private/machines.json" "$WORKSPACE/machines.json"
}
give_up() {                                     # what is known, then one line that says why
  jq -r '.[] | "  \(.name) \(.mac): booted from the network \(.boots) times, " +
    if .report then "up at \(.report.address)" else "NOT UP" end' "$logs/machines.json"
  die "$*"
}
look; pids=(); end=$((SECONDS + MACHINE_LIMIT))
for ((i = 0; i < count; i++)); do gate virsh start "baremetalbrbm${N}_$i" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid" || refused "a machine does not power on"; done
say "$count machines powered on"
on_seed() {
  ssh -i "$private/rack" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 -o LogLevel=ERROR \
    -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "root@$seed" "$@"
}
on_seed true || give_up "the seed lets nobody in by ssh"
while [ "$up" -lt "$count" ]; do
  [ $SECONDS -lt $end ] || give_up "only $up of $count machines are up within $MACHINE_LIMIT s"
  [ -z "$loops" ] || give_up "boot loop, see the serial console: $loops booted $MAX_BOOTS times and never reported"
  fetch registry.jsonl "cgi-bin/registry?$events" || sleep 1       # the seed answers when there is news
  was=$up; look; [ "$up" = "$was" ] || say "$up of $count machines are up"
done

# --- 6. are they what the rack's data say? A kernel keeps some memory for itself; disks have one GiB more than is promised.
jq -r --slurpfile events "$logs/registry.jsonl" '(.[] | .report as $r |
    (select($r.memoryMiB > .memory or $r.memoryMiB < .memory * 0.7) | "\(.name) has \($r.memoryMiB) MiB of memory, not \(.memory)"),
    (select($r.diskGiB != .disk + 1) | "\(.name) has a disk of \($r.diskGiB) GiB, not \(.disk + 1)"),
    (select($r.ssh | not) | "\(.name) has no ssh")),
  (map(.mac) as $known | $events[] | select(.mac as $m | $known | index($m) | not) | "\(.mac) is no machine of this rack")' \
  "$logs/machines.json" >"$logs/problems.txt"
[ ! -s "$logs/problems.txt" ] || give_up "$(paste -sd';' "$logs/problems.txt")"
jq -r '.[] | "  \(.name) \(.mac): \(.report.address), serial \(.report.serial), " +
  "\(.report.memoryMiB) MiB, disk \(.report.diskGiB) GiB"' "$logs/machines.json"
say "all $count machines are up and as promised; logs in $logs"
