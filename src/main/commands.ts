/**
 * Commands of one machine and its programs (surface.md §2): what is behind each is loaded when it
 * is asked for, so that a client starts without the server's parts.
 */
import { countOf, flagOption, textOption } from "../cli/arguments.ts";
import { checkConfigVerb } from "../cli/check-config.ts";
import type { Program, Verb } from "../cli/program.ts";
import { version } from "./version.ts";

const loadConfigCheck = async () => (await import("./config-file.ts")).checkConfig;

export function addMachineCommands(program: Program): void {
  program.add("demo", demo);
  program.add("up", up);
  program.add("status", status);
  program.add("down", down);
  program.add("test", test);
  program.add("sim", sim);
  program.add("doctor", doctor);
  program.add("install-service", installService);
  program.add("version", versionVerb);
  program.add("server", server);
  program.add("check-config", checkConfigVerb(loadConfigCheck));
}

const up: Verb = {
  summary: "Start server and TE host on this machine, and keep them running",
  example: "rackyard up --detach",
  options: [["--detach", "go into the background; come back when all is ready"]],
  async run(context, { options }) {
    const { runUp } = await import("./up.ts");
    return runUp(context, { detach: flagOption(options, "detach") });
  },
};

const installService: Verb = {
  summary: "Write a systemd unit that runs `up` at boot",
  example: "rackyard install-service\nrackyard install-service --print",
  options: [
    ["--print", "show the unit, write nothing"],
    ["--remove", "stop and remove the unit"],
  ],
  async run(context, { options }) {
    const { runInstallService } = await import("./systemd/unit.ts");
    return runInstallService(context, {
      print: flagOption(options, "print"),
      remove: flagOption(options, "remove"),
    });
  },
};

const down: Verb = {
  summary: "Stop everything of this state directory, and prove that nothing is left",
  example: "rackyard down --purge",
  options: [["--purge", "remove the state directory too"]],
  async run(context, { options }) {
    const { runDown } = await import("./down.ts");
    return runDown(context, { purge: flagOption(options, "purge") });
  },
};

const status: Verb = {
  summary: "What runs, and how it is",
  example: "rackyard status --json",
  async run(context) {
    const { runStatus } = await import("./status.ts");
    return runStatus(context);
  },
};

const demo: Verb = {
  summary: "Watch one change go the whole way on real virtual machines",
  example: "rackyard demo\nrackyard demo --break   the same with a change that does not boot",
  options: [
    ["--break", "push a change that fails, and expect that it does"],
    ["--down", "stop everything afterwards"],
  ],
  async run(context, { options }) {
    const { runDemo } = await import("./demo.ts");
    return runDemo(context, {
      breaks: flagOption(options, "break"),
      down: flagOption(options, "down"),
    });
  },
};

const test: Verb = {
  summary: "Pass all tests; a running installation is left alone",
  example: "rackyard test --only pure",
  options: [
    ["--only <suite>", "pure, sim, scenarios, conformance, live or web"],
    ["--deep", "more of what is random, longer"],
  ],
  async run({ globals }, { options }) {
    const { runTests } = await import("./test.ts");
    return runTests({
      only: textOption(options, "only"),
      deep: flagOption(options, "deep"),
      json: globals.json,
    });
  },
};

const sim: Verb = {
  summary: "Try the leases in simulated worlds, each a bad day from its seed",
  example: "rackyard sim --seeds 2000\nrackyard sim --from 17 --seeds 1   repeat one that failed",
  options: [
    ["--seeds <n>", "how many worlds (100)"],
    ["--from <n>", "the first seed (1)"],
  ],
  async run(context, { options }) {
    const { runSim } = await import("./sim/command.ts");
    const seeds = countOf(textOption(options, "seeds") ?? "100", "--seeds");
    return runSim(context, { seeds, from: countOf(textOption(options, "from") ?? "1", "--from") });
  },
};

const doctor: Verb = {
  summary: "Is this machine fit, and what cures what is missing",
  example: "rackyard doctor\nrackyard doctor --leaks   what is left of dead installations",
  options: [["--leaks", "only what is left behind of installations that are gone"]],
  async run(context, { options }) {
    const { runDoctor, runLeaks } = await import("./doctor-command.ts");
    return flagOption(options, "leaks") ? runLeaks(context) : runDoctor(context);
  },
};

const server: Verb = {
  summary: "The server alone: scheduler, broker, review system, API; a program",
  example: "rackyard server --config /etc/rackyard/rackyard.yaml",
  async run(context) {
    const { runServer } = await import("./server.ts");
    return runServer(context);
  },
};

const versionVerb: Verb = {
  summary: "The version of this program",
  example: "rackyard version --json",
  run({ out }) {
    const about = { version, node: process.version };
    out.result(about, () => `rackyard ${version} (Node ${process.version})`);
    return Promise.resolve();
  },
};
