/**
 * A yard in the middle of its day, for looking at the pages: a build that failed with evidence,
 * one that runs, one that waits, racks in several states. On the views of the API's own tests.
 */
import type { Views } from "../../src/api/views.ts";
import type { BuildView, TimelineEntry } from "../../src/model/build.ts";
import type { LeaseView } from "../../src/model/lease.ts";
import { build as plain, ids, memoryViews } from "../scenarios/api-views.ts";

const startMs = Date.now() - 95_000;
const at = (ms: number): string => new Date(startMs + ms).toISOString();

export const running = "aaaaaaaa-1111-4111-8111-111111111111";
export const waitingBuild = "bbbbbbbb-1111-4111-8111-111111111111";

const failed: BuildView = {
  ...plain,
  project: "metal-node",
  createdAt: at(900),
  startedAt: at(14_000),
  endedAt: at(61_000),
  attempt: 2,
  nodeAddress: "10.99.0.180",
  errorDetail: "the job's command ended with exit code 1",
  evidence: [
    {
      file: "rack/console-te1-n0.log",
      line: 118,
      text: "[    2.113] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
      rule: "kernel-panic",
      context: {
        from: 116,
        lines: [
          "[    1.902] EXT4-fs (vda1): mounted filesystem",
          "[    2.110] /sbin/init: error while loading shared libraries: libc.so.6",
          "[    2.113] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
          "[    2.114] CPU: 0 PID: 1 Comm: init Not tainted",
        ],
      },
    },
    {
      file: "console.log",
      line: 9,
      text: "te1-n0 did not report within 30 s; its console's last line is above",
      rule: "job-says",
    },
  ],
  interruptions: [],
};
const live: BuildView = {
  ...failed,
  id: running,
  state: "running",
  result: null,
  endedAt: null,
  startedAt: at(60_000),
  errorDetail: null,
  evidence: [],
  attempt: 1,
  interruptions: [
    {
      at: at(72_000),
      code: "agent-restarted",
      text: "the host's agent was started again",
      te: "here:1",
    },
  ],
};
const waits: BuildView = {
  ...live,
  id: waitingBuild,
  job: "deploy-large",
  state: "waiting",
  startedAt: null,
  lease: null,
  node: null,
  nodeAddress: null,
  te: null,
  epoch: null,
  interruptions: [],
};
const first: BuildView = {
  ...failed,
  id: "cccccccc-1111-4111-8111-111111111111",
  attempt: 1,
  result: "RETRY",
};

const steps: readonly (readonly [string, number, string?])[] = [
  ["pushed", 0],
  ["enqueued", 140],
  ["prepared", 900],
  ["node-ready", 13_100],
  ["leased", 13_600],
  ["started", 14_000],
  ["seed-up", 33_400],
  ["machine-up", 44_900, "te1-n0"],
  ["machine-up", 46_200, "te1-n1"],
  ["finished", 52_800],
  ["collected", 57_100],
  ["lease-ended", 57_300],
  ["voted", 60_200],
];

function timelineOf(count: number): TimelineEntry[] {
  return steps.slice(0, count).map(([step, atMs, machine], n) => ({
    at: at(atMs),
    step,
    atMs,
    durationMs: n === 0 ? null : atMs - (steps[n - 1]?.[1] ?? 0),
    ...(machine === undefined ? {} : { machine }),
  }));
}

const consoleLines = [
  "Detailed logs: /logs/01/1/2/check/deploy/1111111/",
  "+ mkdir -p /home/ci/workspace/logs",
  "building the seed's image from /opt/stack/new/metal-seed",
  "\u001b[32mseed image: 18.2 MiB in 9.1 s\u001b[0m",
  "building the node's ramdisk from /opt/stack/new/metal-node",
  "copying the seed: 64 MiB",
  "powering on te1-n0, te1-n1",
  "waiting for two machines",
  "\u001b[1;31mte1-n0 did not report within 30 s; its console's last line is above\u001b[0m",
  "a line that is very long: " + "0123456789 ".repeat(30),
  "Result: FAILURE",
];

export function sampleYard(directory: string): Views {
  const { views } = memoryViews(directory);
  const builds = [live, waits, failed, first];
  const lease = (state: LeaseView["state"], more: Partial<LeaseView>): LeaseView => ({
    id: ids.lease,
    tenant: "local",
    state,
    holder: { name: "deploy of 1,2" },
    group: "metal-node",
    priority: "normal",
    createdAt: at(20_000),
    testenvs: [],
    interruptions: [],
    ...more,
  });
  const active = lease("active", {
    expiresAt: at(1_800_000),
    testenvs: [{ id: "here:1", epoch: "8", kind: "two", host: "here" }],
  });
  const asks = lease("waiting", {
    id: ids.nothing,
    holder: { name: "deploy-large of 3,1" },
    place: 1,
    why: [
      { code: "held", text: "here:1 fits; deploy of 1,2 holds it until 14:32 at the latest" },
      { code: "resetting", text: "here:2 fits; it is being reset, about 9 s more" },
    ],
  });
  return {
    ...views,
    builds: {
      ...views.builds,
      list: (query) =>
        Promise.resolve({
          items: builds.filter((one) => query.job === undefined || one.job === query.job),
          next: null,
        }),
      whole: (text) => Promise.resolve(builds.find((one) => one.id.startsWith(text))?.id ?? text),
      get: async (id) => builds.find((one) => one.id === id) ?? views.builds.get(id),
      timeline: (id) =>
        Promise.resolve(timelineOf(id === running ? 7 : id === waitingBuild ? 3 : steps.length)),
      files: (id) =>
        Promise.resolve(
          id === running || id === waitingBuild
            ? []
            : [
                "console.log",
                "index.html",
                "logs/machines/te1-n0.missing",
                "logs/machines/te1-n1.tar.gz",
                "manifest.json",
                "rack/certificate.json",
                "rack/console-te1-n0.log",
                "rack/console-te1-n1.log",
                "rack/console-te1-seed.log",
                "rack/timeline.jsonl",
                "zuul.json",
              ].map((path, n) => ({ path, bytes: 311 * (n + 1) ** 3 })),
        ),
      async *console(id, after, signal) {
        if (id === waitingBuild) return;
        const shown = id === running ? consoleLines.slice(0, 8) : consoleLines;
        for (const [n, line] of shown.entries()) {
          if (n + 1 > after)
            yield {
              seq: n + 1,
              line: `${at(14_000 + n * 3_000)
                .replace("T", " ")
                .replace("Z", " |")} ${line}`,
            };
        }
        if (id === running) {
          await new Promise<void>((resolve) =>
            signal.addEventListener("abort", () => resolve(), { once: true }),
          );
        }
      },
      pipelines: () =>
        Promise.resolve([
          {
            name: "check",
            manager: "independent",
            items: [
              {
                id: ids.buildset,
                change: 1,
                patchset: 2,
                project: "metal-node",
                enqueuedAt: at(140),
                jobs: [
                  {
                    name: "lint",
                    build: ids.build,
                    state: "reported",
                    result: "SUCCESS",
                    why: null,
                  },
                  { name: "deploy", build: running, state: "running", result: null, why: null },
                  {
                    name: "deploy-large",
                    build: waitingBuild,
                    state: "waiting",
                    result: null,
                    why: "no rack is free: here:1 is held by deploy of 1,2",
                  },
                ],
              },
            ],
          },
        ]),
    },
    leases: {
      ...views.leases,
      list: (query) =>
        Promise.resolve({
          items: [active, asks].filter((one) => one.state === query.state),
          next: null,
        }),
    },
    fleet: {
      ...views.fleet,
      testenvs: async () => {
        const [te] = await views.fleet.testenvs();
        const base = te!;
        return [
          { ...base, state: "leased", lease: ids.lease },
          { ...base, id: "here:2", number: 2, state: "resetting" },
          { ...base, id: "here:3", number: 3, state: "ready" },
          {
            ...base,
            id: "here:4",
            number: 4,
            state: "faulty",
            detail: "the probe found a flow left",
          },
        ];
      },
    },
    changes: {
      ...views.changes,
      list: async (query) => {
        const page = await views.changes.list(query);
        const votes = [{ label: "Verified", value: -1, by: "rackyard" }];
        return { ...page, items: page.items.map((one) => ({ ...one, votes })) };
      },
      get: async (number) => ({
        ...(await views.changes.get(1)),
        number,
        subject: "Start the hardware agent before reporting, so that the report can name it",
        project: "metal-node",
        votes: [
          { label: "Verified", value: -1, by: "rackyard" },
          { label: "Code-Review", value: 2, by: "dora" },
        ],
        dependsOn: [7],
        comments: [
          {
            at: at(60_200),
            by: "rackyard",
            patchset: 2,
            text: `Build failed (check pipeline).\n\n- deploy http://127.0.0.1/builds/${ids.build} : FAILURE in 47s (2 attempts)\n    rack/console-te1-n0.log:118: Kernel panic - not syncing`,
          },
          { at: at(70_000), by: "dora", patchset: 2, text: "recheck" },
        ],
        patchsets: [1, 2].map((n) => ({
          number: n,
          commit: `${n}f3c0a9d7be2`.padEnd(40, "0"),
          ref: `refs/changes/01/1/${n}`,
          uploader: "dora",
          createdAt: at(n * 10_000),
        })),
      }),
    },
    raw: {
      ...views.raw,
      logs: (_request, response) => {
        const lines = Array.from(
          { length: 160 },
          (_, n) => `[    ${(n / 60).toFixed(3)}] line ${n + 1}`,
        );
        lines[117] =
          "[    2.113] Kernel panic - not syncing: Attempted to kill init! exitcode=0x100";
        response.setHeader("content-type", "text/plain; charset=utf-8");
        response.end(`${lines.join("\n")}\n`);
        return Promise.resolve();
      },
    },
  };
}
