/**
 * `rackyard te …`: test environments, their states, epochs and certificates, through the API.
 */
import { fail } from "../base/errors.ts";
import type { TestenvView } from "../model/testenv.ts";
import { pairs, stateText } from "./fleet.ts";
import type { Output } from "./output.ts";
import type { Program, Verb } from "./program.ts";

export function addTestenvCommands(program: Program): void {
  program.noun("te", "Test environments: racks, their states and certificates");
  program.add("te list", listVerb);
  program.add("te show", showVerb);
  program.add("te certificate", certificateVerb);
  program.add("te drain", drainVerb(true));
  program.add("te undrain", drainVerb(false));
  program.add("te reset", resetVerb);
}

const listVerb: Verb = {
  summary: "Test environments",
  example: "rackyard te list",
  async run({ client, out }) {
    const items = await (await client()).testenvs.list();
    out.result({ items, next: null }, () => listText(out, items));
  },
};

function listText(out: Output, items: readonly TestenvView[]): string {
  return out.table(
    ["te", "kind", "state", "epoch", "lease", "machines", "labels", "detail"],
    items.map((te) => [
      te.id,
      te.kind,
      stateText(out, te.state) + (te.draining ? " (draining)" : ""),
      te.epoch,
      te.lease?.slice(0, 8) ?? "–",
      `${te.machines.count} × ${te.machines.memoryMiB} MiB`,
      te.labels.join(" ") || "–",
      te.detail ?? "",
    ]),
  );
}

const showVerb: Verb = {
  summary: "One test environment",
  example: "rackyard te show here:1",
  args: "<te>",
  async run({ client, out }, { args }) {
    const te = await (await client()).testenvs.get(testenvId(args[0]));
    out.result(te, () => showText(out, te));
  },
};

/** The rack's facts, then its machines as they are: power is what the host's last look saw. */
function showText(out: Output, te: TestenvView): string {
  const { machineList, ...facts } = te;
  const rows = machineList.map(({ name, power, domain, macs }) => [
    name,
    power === "off" ? power : out.style(power === "on" ? "green" : "yellow", power),
    domain,
    macs.join(" "),
  ]);
  return [pairs(out, facts), "", out.table(["machine", "power", "domain", "macs"], rows)].join(
    "\n",
  );
}

function testenvId(given = ""): string {
  if (/^[^:/]+:\d+$/.test(given)) return given;
  return fail("usage", `${given} is no test environment: give HOST:NUMBER`, {
    remedy: "see rackyard te list",
  });
}

function drainVerb(on: boolean): Verb {
  return {
    summary: on ? "Lend it to nobody after its present lease" : "Lend it again",
    example: `rackyard te ${on ? "drain" : "undrain"} here:1`,
    args: "<te>",
    async run({ client, out }, { args }) {
      const te = await (await client()).testenvs.drain(testenvId(args[0]), on);
      out.result(te, () => `${te.id} is ${te.state}${te.draining ? ", draining" : ""}`);
    },
  };
}

const resetVerb: Verb = {
  summary: "Reset a rack that nobody has; brings back a quarantined one",
  example: "rackyard te reset here:1",
  args: "<te>",
  async run({ client, out }, { args }) {
    const te = await (await client()).testenvs.reset(testenvId(args[0]));
    const next = `rackyard te show ${te.id} shows what comes of it`;
    out.result(te, () => `${te.id} was ${te.state}; its reset is ordered. ${next}`);
  },
};

const certificateVerb: Verb = {
  summary: "The proof of its latest reset, signed by its host",
  example: "rackyard te certificate here:1",
  args: "<te>",
  async run({ client, out }, { args }) {
    const certificate = await (await client()).testenvs.certificate(testenvId(args[0]));
    out.result(certificate, () => pairs(out, certificate));
  },
};
