/**
 * `rackyard build …`: builds, their consoles and their archived files, through the API.
 */
import type { Client } from "../api/client.ts";
import type { BuildView, Evidence } from "../model/build.ts";
import { flagOption, numberOf, textOption, wholeId } from "./arguments.ts";
import { waitLines, waitsOf } from "./build-waits.ts";
import { resultText } from "./change.ts";
import { agoText, bytesText, secondsText } from "./output.ts";
import type { Output } from "./output.ts";
import type { Program, Verb } from "./program.ts";

export function addBuildCommands(program: Program): void {
  program.noun("build", "Builds: look, follow the console, get the logs, cancel");
  program.add("build list", listVerb);
  program.add("build show", showVerb);
  program.add("build console", consoleVerb);
  program.add("build logs", logsVerb);
  program.add("build cancel", cancelVerb);
}

const listVerb: Verb = {
  summary: "Builds, newest first",
  example: "rackyard build list --result FAILURE --limit 20",
  options: [
    ["--change <number>", "of this change alone"],
    ["--project <name>", "of this project alone"],
    ["--pipeline <name>", "in this pipeline alone"],
    ["--job <name>", "of this job alone"],
    ["--in <state>", "waiting, acquiring, preparing, running, …, reported"],
    ["--result <result>", "SUCCESS, FAILURE, …"],
    ["--limit <n>", "how many at most"],
  ],
  async run({ client, out }, { options }) {
    const change = textOption(options, "change");
    const api = await client();
    const page = await api.builds.list({
      change: change === undefined ? undefined : numberOf(change),
      project: textOption(options, "project"),
      pipeline: textOption(options, "pipeline"),
      job: textOption(options, "job"),
      result: textOption(options, "result"),
      // --state is the state directory, for all commands.
      state: textOption(options, "in"),
      limit: textOption(options, "limit"),
    });
    out.result(page, () =>
      out.table(
        ["build", "change", "job", "result", "attempt", "node", "rack", "when"],
        page.items.map((build) => [
          build.id.slice(0, 8),
          changeText(build),
          build.job,
          build.result === null ? build.state : resultText(out, build.result),
          `${build.attempt}/${build.maxAttempts}`,
          build.nodeAddress ?? "–",
          build.te ?? "–",
          agoText(build.endedAt ?? build.startedAt ?? build.createdAt, Date.now()),
        ]),
      ),
    );
  },
};

const showVerb: Verb = {
  summary: "One build: result, time line, evidence, files",
  example: "rackyard build show 0a1b2c3d",
  args: "<build>",
  async run({ client, out }, { args }) {
    const api = await client();
    const build = await api.builds.get(await buildId(api, args[0]));
    const timeline = await api.builds.timeline(build.id);
    const waits = await waitsOf(api, [build]);
    out.result({ ...build, timeline, waits }, () => {
      const rows = timeline.map((entry) => [
        `+${secondsText(entry.atMs)}`,
        entry.step,
        entry.durationMs === null ? "" : secondsText(entry.durationMs),
        [entry.machine, entry.detail].filter(Boolean).join(" "),
      ]);
      const head = [...headLines(out, build), ...waitLines(waits)];
      return [...head, "", out.table(["at", "step", "took", ""], rows)].join("\n");
    });
  },
};

function headLines(out: Output, build: BuildView): string[] {
  const result = build.result === null ? build.state : resultText(out, build.result);
  const place = [
    `attempt ${build.attempt} of ${build.maxAttempts}`,
    ...(build.nodeAddress ? [`node ${build.nodeAddress}`] : []),
    ...(build.te ? [`rack ${build.te}, epoch ${build.epoch}`] : []),
  ];
  return [
    `${out.style("bold", build.job)}  ${result}${build.voting ? "" : " (non-voting)"}`,
    `change ${changeText(build)} of ${build.project} ${build.branch}, pipeline ${build.pipeline}`,
    place.join(", "),
    `logs: ${build.logsUrl}`,
    ...(build.errorDetail ? [out.style("yellow", build.errorDetail)] : []),
    ...build.evidence.flatMap((one) => [
      `${out.style("red", "evidence")} ${one.file}:${one.line}: ${one.text}`,
      ...contextLines(one).map((line) => out.style("dim", `  ${line}`)),
    ]),
    ...build.interruptions.map((one) => `${out.style("yellow", "interruption")} ${one.text}`),
  ];
}

/** The lines around it with their numbers, as the log has them; the line itself is marked. */
function contextLines({ line, context }: Evidence): string[] {
  if (context === undefined) return [];
  const width = `${context.from + context.lines.length - 1}`.length;
  return context.lines.map((text, n) => {
    const number = context.from + n;
    return `${number === line ? ">" : " "} ${`${number}`.padStart(width)}  ${text}`.trimEnd();
  });
}

const consoleVerb: Verb = {
  summary: "A build's console; -f follows it to its end",
  example: "rackyard build console -f 0a1b2c3d",
  args: "<build>",
  options: [["-f, --follow", "go on until the build's console ends; exit 1 unless it succeeded"]],
  async run({ client, out }, { args, options }) {
    const api = await client();
    const id = await buildId(api, args[0]);
    if (!flagOption(options, "follow")) {
      const text = await api.builds.console(id);
      const lines = text.split("\n").slice(0, -1);
      for (const [n, line] of lines.entries()) out.record({ seq: n + 1, line }, () => line);
      return 0;
    }
    for await (const { seq, line } of api.builds.follow(id)) {
      out.record({ seq, line }, () => line);
    }
    const { result } = await api.builds.get(id);
    return result === "SUCCESS" || result === null ? 0 : 1;
  },
};

const logsVerb: Verb = {
  summary: "What is archived of a build, with its addresses",
  example: "rackyard build logs 0a1b2c3d",
  args: "<build>",
  async run({ client, out }, { args }) {
    const api = await client();
    const build = await api.builds.get(await buildId(api, args[0]));
    const base = new URL(
      build.logsUrl.endsWith("/") ? build.logsUrl : `${build.logsUrl}/`,
      api.endpoint.url,
    );
    const files = (await api.builds.files(build.id)).map(({ path, bytes }) => ({
      path,
      bytes,
      url: new URL(path.split("/").map(encodeURIComponent).join("/"), base).href,
    }));
    out.result({ logsUrl: base.href, logsPath: build.logsPath, files }, () =>
      [
        base.href,
        out.table(
          ["size", "file"],
          files.map(({ path, bytes }) => [bytesText(bytes).padStart(10), path]),
        ),
      ].join("\n"),
    );
  },
};

const cancelVerb: Verb = {
  summary: "Stop a build: CANCELED, without a vote",
  example: "rackyard build cancel 0a1b2c3d",
  args: "<build>",
  async run({ client, out }, { args }) {
    const api = await client();
    const build = await api.builds.cancel(await buildId(api, args[0]));
    out.result(build, () => `build ${build.id.slice(0, 8)} is being stopped`);
  },
};

/** Short ids are completed by the server, which knows all builds. */
function buildId(api: Client, text: string | undefined): Promise<string> {
  return wholeId(text, "build", async (given) => [await api.builds.get(given)]);
}

function changeText(build: BuildView): string {
  return build.change === null ? "–" : `${build.change},${build.patchset}`;
}
