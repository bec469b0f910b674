/**
 * `rackyard lease …`: a rack for a command, and what is known of leases, through the API. Runs
 * on strangers' machines too: it needs Node and a server to ask, nothing else.
 */
import type { Client } from "../api/client.ts";
import type { LeaseView } from "../model/lease.ts";
import { flagOption, textOption, wholeId } from "./arguments.ts";
import { pairs, stateText } from "./fleet.ts";
import { startText } from "./lease-text.ts";
import { agoText, timeText } from "./output.ts";
import type { Output } from "./output.ts";
import type { Program, Verb } from "./program.ts";

const LIVE = ["waiting", "preparing", "active", "ending"];

export function addLeaseCommands(program: Program): void {
  program.add("lease", leaseVerb);
  program.add("lease list", listVerb);
  program.add("lease show", showVerb);
  program.add("lease why", whyVerb);
  program.add("lease release", releaseVerb);
}

const leaseVerb: Verb = {
  summary: "Lend a rack to a command: lease … -- COMMAND; or look at leases",
  example: `rackyard lease --machines 2 --for 30m --wait 10m -- ./run.sh

COMMAND finds in its environment
  TE_DATAFILE          the rack's data (JSON, 0600), with the key to its host
  RACKYARD_SSH_CONFIG  an ssh configuration that knows that key and the host's own
  RACKYARD_LEASE       the lease's id;  TE_CA_FILE: the host's CA, where it has one
and, in front of PATH, an ssh, scp and sftp that read that configuration and then yours:
  ssh te1@10.99.0.1 virsh list     simply works.
The exit code is COMMAND's own (127 not found, 126 not executable, 128 + n by signal n), but 68
where the server is away, 69 where no rack came within --wait or none fits, 75 where it was lost,
77 where it is not allowed.`,
  takesCommand: true,
  options: [
    ["--machines <n>", "how many machines, beside the seed", "1"],
    ["--memory-mib <n>", "at least so much memory for each"],
    ["--for <time>", "how long at most: 90s, 30m, 2h", "1h"],
    ["--wait <time>", "how long to wait for it at most; default: as long as it takes"],
    ["--label <expression>", 'labels of the rack: "ipv6 && !slow"'],
    ["--group <name>", "on whose account"],
    ["--name <text>", "how the holder is shown to others"],
    ["--address <ip,…>", "from where the seed will be reached; not needed on its own machine"],
    ["--status-file <file>", "how it went, as JSON: outcome, exitCode, lease"],
  ],
  async run(context, input) {
    const { runWithLease } = await import("./lease-run.ts");
    return runWithLease(context, input);
  },
};

const listVerb: Verb = {
  summary: "Leases: who holds what, who waits, and why",
  example: "rackyard lease list\nrackyard lease list --all --te here:1",
  options: [
    ["--all", "those that are over too"],
    ["--in <state>", "waiting, preparing, active, ending, ended"],
    ["--te <id>", "of this test environment alone"],
    ["--holder <name>", "of this holder alone"],
    ["--limit <n>", "how many at most", "100"],
  ],
  async run({ client, out }, { options }) {
    const api = await client();
    const state = textOption(options, "in");
    const states = flagOption(options, "all") ? [undefined] : state ? [state] : LIVE;
    const limit = textOption(options, "limit");
    const filter = { te: textOption(options, "te"), holder: textOption(options, "holder"), limit };
    const pages = await Promise.all(
      states.map((one) => api.leases.list({ ...filter, state: one })),
    );
    const items = pages.flatMap((page) => [...page.items]);
    const next = pages.length === 1 ? pages[0]!.next : null;
    out.result({ items, next }, () => listText(out, items));
  },
};

function listText(out: Output, leases: readonly LeaseView[]): string {
  const table = out.table(
    ["lease", "state", "holder", "te", "epoch", "asked", "about"],
    leases.map((lease) => [
      lease.id.slice(0, 8),
      stateText(out, lease.state),
      lease.holder.name,
      lease.testenvs[0]?.id ?? "–",
      lease.testenvs[0]?.epoch ?? "–",
      agoText(lease.createdAt, Date.now()),
      aboutText(lease),
    ]),
  );
  const waiting = leases.filter(({ state }) => state === "waiting");
  return [table, ...waiting.flatMap(reasonLines)].join("\n");
}

/** Below the table, where a sentence has room: which rack, who has it, until when. */
function reasonLines(lease: LeaseView): string[] {
  const start = startText(lease);
  const lines = [...(lease.why ?? []).map(({ text }) => text), ...(start ? [start] : [])];
  return ["", `${lease.id.slice(0, 8)} waits:`, ...lines.map((line) => `  ${line}`)];
}

function aboutText(lease: LeaseView): string {
  if (lease.state === "waiting") return `place ${lease.place ?? "?"}`;
  if (lease.state === "ended") return `${lease.reason} ${agoText(lease.endedAt, Date.now())}`;
  return lease.expiresAt === undefined ? "" : `until ${timeText(lease.expiresAt)}`;
}

/** Short ids are completed by the server, which knows all leases. */
function leaseId(api: Client, text: string | undefined): Promise<string> {
  return wholeId(text, "lease", async (given) => [await api.leases.get(given)]);
}

async function leaseOf(api: Client, text: string | undefined): Promise<LeaseView> {
  return api.leases.get(await leaseId(api, text));
}

const showVerb: Verb = {
  summary: "One lease",
  example: "rackyard lease show 7f3a01c2",
  args: "<lease>",
  async run({ client, out }, { args }) {
    const lease = await leaseOf(await client(), args[0]);
    out.result(lease, () => pairs(out, lease));
  },
};

const whyVerb: Verb = {
  summary: "Why a lease waits: which racks fit, who has them, until when, who is ahead",
  example: "rackyard lease why 7f3a01c2",
  args: "<lease>",
  async run({ client, out }, { args }) {
    const lease = await leaseOf(await client(), args[0]);
    const { id, state, place = null, predictedStart = null, why = [] } = lease;
    out.result({ id, state, place, predictedStart, why }, () => {
      if (state !== "waiting") return `${id} does not wait: it is ${state}`;
      const start = predictedStart
        ? `start between ${timeText(predictedStart.earliestAt)} and ` +
          `${timeText(predictedStart.latestAt)}, likely ${timeText(predictedStart.likelyAt)}`
        : "nobody can say when it starts";
      return [`place ${place ?? "?"}; ${start}`, ...why.map(({ text }) => `  ${text}`)].join("\n");
    });
  },
};

const releaseVerb: Verb = {
  summary: "Take a lease back from its holder (for operators)",
  example: "rackyard lease release 7f3a01c2",
  args: "<lease>",
  async run({ client, out }, { args }) {
    const api = await client();
    const lease = await api.leases.revoke((await leaseOf(api, args[0])).id);
    out.result(lease, () => `${lease.id}: ${lease.state} (${lease.reason ?? ""})`);
  },
};
