/**
 * The commands of the program `te-host` (surface.md §2): run, plan, check. What is
 * behind each is loaded when it is asked for.
 */
import type { Program, Verb } from "../cli/program.ts";

export function addTeHostCommands(program: Program): void {
  program.add("te-host", run);
  program.add("te-host run", run);
  program.add("te-host plan", plan);
  program.add("te-host check", check);
}

const run: Verb = {
  summary: "The agent of this machine's racks and nodes; a program, as root",
  example: "rackyard te-host --state /var/lib/rackyard",
  async run(context) {
    const { runTeHost } = await import("./te-host.ts");
    return runTeHost(context);
  },
};

const plan: Verb = {
  summary: "What a pass of the TE host would do; touches nothing",
  example: "rackyard te-host plan --json",
  async run(context) {
    const { runTeHostPlan } = await import("./te-host/plan-command.ts");
    return runTeHostPlan(context);
  },
};

const check: Verb = {
  summary: "Is this machine fit to be a TE host, and what cures what is missing",
  example: "rackyard te-host check",
  async run(context) {
    const { runTeHostCheck } = await import("./te-host/check-command.ts");
    return runTeHostCheck(context);
  },
};
