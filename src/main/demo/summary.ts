/**
 * The last line of the demo (surface.md §8): what was expected, what came, and where everything
 * is. `ok` only if all of it is as it should be and every address answers.
 */
import type { Client } from "../../api/client.ts";
import { describeError } from "../../base/errors.ts";
import { open } from "../../base/http-client.ts";
import { verifyCertificate } from "../../model/certificate.ts";
import type { Seen } from "./follow.ts";
import type { Pushed } from "./push.ts";

export type Summary = {
  readonly event: "summary";
  readonly ok: boolean;
  readonly expected: "SUCCESS" | "FAILURE";
  readonly result: string | null;
  readonly change: Omit<Pushed, "atMs"> | null;
  readonly vote: { readonly label: string; readonly value: number } | null;
  readonly build: string | null;
  readonly attempts: number;
  readonly lease: string | null;
  readonly te: string | null;
  readonly epoch: string | null;
  readonly endedReason: string | null;
  readonly certificate: {
    readonly url: string;
    readonly valid: boolean;
    readonly resetMs: number;
  } | null;
  readonly logsUrl: string | null;
  readonly logsPath: string | null;
  readonly files: {
    readonly console: string | null;
    readonly manifest: string | null;
    readonly consoles: Readonly<Record<string, string>>;
    readonly machines: Readonly<Record<string, string>>;
  };
  readonly evidence: readonly {
    readonly url: string;
    readonly line: number;
    readonly text: string;
  }[];
  readonly timeline: readonly { readonly step: string; readonly atMs: number; machine?: string }[];
  readonly pushToVoteMs: number | null;
  readonly durationMs: number;
  readonly failure: string | null;
  readonly next: readonly string[];
};

export type Facts = {
  readonly breaks: boolean;
  readonly pushed: Pushed | undefined;
  readonly seen: (Seen & { readonly vote?: Summary["vote"] | undefined }) | undefined;
  readonly timeline: Summary["timeline"];
  readonly durationMs: number;
  /** Why it ended before its end. */
  readonly failure: string | undefined;
};

export async function summarize(api: Client | undefined, facts: Facts): Promise<Summary> {
  const { breaks, pushed, seen } = facts;
  const build = seen?.build;
  const expected = breaks ? "FAILURE" : "SUCCESS";
  const files = api && build ? await filesOf(api, build) : noFiles;
  const place = placeOf(facts);
  const part: Omit<Summary, "ok" | "failure"> = {
    event: "summary",
    expected,
    result: build?.result ?? null,
    change: pushed ? { number: pushed.number, patchset: pushed.patchset, url: pushed.url } : null,
    vote: seen?.vote ?? null,
    build: build?.id ?? null,
    attempts: build?.attempt ?? 0,
    lease: build?.lease ?? null,
    te: build?.te ?? null,
    epoch: build?.epoch ?? null,
    endedReason: seen?.lease?.reason ?? null,
    certificate: api && seen ? await certificateOf(api, seen) : null,
    logsUrl: build?.logsUrl ?? null,
    logsPath: build?.logsPath ?? null,
    files,
    evidence: (build?.evidence ?? []).map(({ file, line, text }) => ({
      url: fileUrl(build?.logsUrl ?? "", file),
      line,
      text,
    })),
    timeline: facts.timeline,
    pushToVoteMs: place("voted"),
    durationMs: facts.durationMs,
    next: nextSteps(facts),
  };
  const failure =
    facts.failure ?? wrongIn(part, breaks) ?? (api ? await firstDeadUrl(api, part) : undefined);
  const { next, event, ...rest } = part;
  return { event, ok: failure === undefined, ...rest, failure: failure ?? null, next };
}

/** What is not as expected, in words; undefined where all is. */
function wrongIn(summary: Omit<Summary, "ok" | "failure">, breaks: boolean): string | undefined {
  const { expected, result, vote, certificate, evidence } = summary;
  const wanted = breaks ? -1 : 1;
  if (result !== expected) return `the build came to ${result}, expected was ${expected}`;
  if (vote?.value !== wanted)
    return `the vote is ${vote?.value ?? "missing"}, expected was ${wanted}`;
  if (!certificate?.valid) return "the rack's reset has no valid certificate";
  if (breaks && evidence.length === 0) return "no evidence of the failure was found in the logs";
  return undefined;
}

const noFiles: Summary["files"] = { console: null, manifest: null, consoles: {}, machines: {} };

async function filesOf(
  api: Client,
  build: { id: string; logsUrl: string },
): Promise<Summary["files"]> {
  const paths = (await api.builds.files(build.id).catch(() => [])).map(({ path }) => path);
  const url = (path: string): string | null =>
    paths.includes(path) ? fileUrl(build.logsUrl, path) : null;
  const named = (pattern: RegExp): Record<string, string> =>
    Object.fromEntries(
      paths.flatMap((path) => {
        const name = pattern.exec(path)?.[1];
        return name === undefined ? [] : [[name, fileUrl(build.logsUrl, path)]];
      }),
    );
  return {
    console: url("console.log"),
    manifest: url("manifest.json"),
    consoles: named(/^rack\/console-(.+)\.log$/),
    machines: named(/^logs\/machines\/(.+)\.tar\.gz$/),
  };
}

function fileUrl(logsUrl: string, path: string): string {
  const base = logsUrl.endsWith("/") ? logsUrl : `${logsUrl}/`;
  return base + path.split("/").map(encodeURIComponent).join("/");
}

/** Is it this lease's and this epoch's, and signed by the host's key (H-8.2)? */
async function certificateOf(
  api: Client,
  { build, certificate }: Seen,
): Promise<Summary["certificate"]> {
  if (!build?.lease || !certificate) return null;
  const hosts = await api.hosts.list().catch(() => []);
  const signer = hosts.find((host) => host.name === build.te?.split(":")[0]);
  return {
    url: `${api.endpoint.url}/v1/leases/${build.lease}/certificate`,
    valid:
      certificate.lease === build.lease &&
      String(certificate.epoch) === build.epoch &&
      (build.te?.endsWith(`:${certificate.te}`) ?? false) &&
      signer !== undefined &&
      verifyCertificate(certificate, signer.certificateKey),
    resetMs: certificate.durationMs,
  };
}

/** Milliseconds from the push to the step. */
function placeOf({ seen }: Facts): (step: string) => number | null {
  return (step) => seen?.timeline.find((entry) => entry.step === step)?.atMs ?? null;
}

function nextSteps({ breaks, pushed, seen }: Facts): string[] {
  const build = seen?.build?.id.slice(0, 8);
  return [
    ...(pushed ? [`rackyard change show ${pushed.number}`] : []),
    ...(build ? [`rackyard build show ${build}`, `rackyard build logs ${build}`] : []),
    breaks ? "rackyard demo" : "rackyard demo --break",
    "rackyard status",
  ];
}

/** What is told must be there. */
async function firstDeadUrl(
  api: Client,
  { logsUrl, files, evidence, certificate, change }: Omit<Summary, "ok" | "failure">,
): Promise<string | undefined> {
  const urls = [
    logsUrl,
    files.console,
    files.manifest,
    ...Object.values(files.consoles),
    ...Object.values(files.machines),
    ...evidence.map(({ url }) => url),
    certificate?.url,
    change?.url,
  ].filter((url) => url !== null && url !== undefined);
  for (const url of new Set(urls)) {
    const { origin, pathname } = new URL(url);
    try {
      const endpoint = { url: origin, token: api.endpoint.token };
      const response = await open(endpoint, pathname, { method: "HEAD" });
      response.resume();
      if (response.statusCode !== 200) return `${url} answers ${response.statusCode}`;
    } catch (error) {
      return `${url}: ${describeError(error)}`;
    }
  }
  return undefined;
}
