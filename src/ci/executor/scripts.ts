/**
 * Scripts that run on a node, as text: pure. They travel on stdin, so that no secret and no
 * job's text stands on a command line. Each ends by telling its status behind a nonce on its
 * own line (X-3a): an ssh that ended without it was *unreachable*, and a job's 255 is its own.
 */
import { shellQuote as q } from "./shell-words.ts";
import type { ExecutorJob } from "../builds/build-ports.ts";
import { HOME, SOURCES, sourceDirectory, WORK_BRANCH, WORKSPACE } from "./environment.ts";

/** What the end of a script says: `NONCE 0`. */
export function parseStatusLine(
  line: string,
  nonce: string,
): { before: string; status: number } | undefined {
  const at = line.indexOf(`${nonce} `);
  if (at < 0) return undefined;
  const status = /^\d{1,3}$/.exec(line.slice(at + nonce.length + 1).trim());
  return status ? { before: line.slice(0, at), status: Number(status[0]) } : undefined;
}

/** Runs `body` (a whole script) and tells its status; the shell reads all of it before it runs. */
export function withStatus(body: string, nonce: string): string {
  return `{\n( ${body}\n) </dev/null\nprintf '%s %s\\n' ${q(nonce)} "$?"\nexit 0\n}\n`;
}

/**
 * Runs one command of a phase in a session of its own, its output as one stream, its group
 * recorded so that it can be ended; then tells its status.
 */
export function phaseScript(
  command: string,
  directory: string,
  environment: Readonly<Record<string, string>>,
  nonce: string,
): string {
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}=${q(value)}`);
  return `{
${exports.join("\n")}
mkdir -p "$WORKSPACE/logs" ${HOME}/.rackyard
cd ${q(directory)} || { printf '%s 1\\n' ${q(nonce)}; exit 0; }
setsid bash --norc -euo pipefail -c ${q(command)} </dev/null 2>&1 &
group=$!
echo "$group" >${HOME}/.rackyard/group
wait "$group"
printf '%s %s\\n' ${q(nonce)} "$?"
exit 0
}
`;
}

/** Ends the group that phaseScript recorded: TERM, ten seconds, KILL. */
export const endPhaseScript = `group=$(cat ${HOME}/.rackyard/group) || exit 0
kill -TERM -- "-$group" 2>/dev/null || exit 0
i=0
while kill -0 -- "-$group" 2>/dev/null && [ "$i" -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
sudo -n kill -KILL -- "-$group" 2>/dev/null || kill -KILL -- "-$group" 2>/dev/null || true`;

export type NodeFile = { readonly path: string; readonly mode: string; readonly content: string };

/**
 * The workspace (V-0 – V-3, surface.md §10): repositories fetched through the nodes' door at
 * exactly the prepared commits, on branch ci-branch, their origin cut and showing what was there
 * before the change; then the job's files.
 */
export function prepareScript(
  job: ExecutorJob,
  doorUrl: string,
  files: readonly NodeFile[],
): string {
  const lines = [
    "set -eu",
    "exec 2>&1",
    "umask 022",
    `[ -w ${SOURCES} ] || sudo -n install -d -o ci -g ci /opt/stack ${SOURCES}`,
    `mkdir -p ${WORKSPACE}/logs ${HOME}/.rackyard`,
    // users beside ours may look into the checkouts (devstack sets the same)
    "sudo -n git config --system --replace-all safe.directory '*' 2>/dev/null || true",
    'fetch() { local n=1; until git fetch -q --no-tags --no-write-fetch-head "$@"; do',
    '  [ "$n" -lt 3 ] || return 1; n=$((n + 1)); sleep 1; done; }',
    ...TAGS,
  ];
  for (const repo of job.facts.repos) {
    const directory = sourceDirectory(repo.project);
    const url = `${doorUrl}/${repo.project}`;
    const wanted = [
      repo.zuulRef ?? repo.commit,
      repo.baseCommit,
      ...Object.values(repo.branches),
      ...(repo.state === undefined ? [] : [repo.state]),
    ].filter((want, index, all) => all.indexOf(want) === index);
    const commits = wanted.map((want, index) => q(`+${want}:refs/rackyard/${index}`));
    // git describe, setuptools_scm, pbr: versions are made of tags; as frozen, where that is known
    const refspecs =
      repo.state === undefined ? [...commits, q("+refs/tags/*:refs/tags/*")] : commits;
    const packed = Object.entries({ ...repo.branches, [repo.branch]: repo.baseCommit }).map(
      ([branch, commit]) => `${commit} refs/remotes/origin/${branch}`,
    );
    lines.push(
      `echo ${q(`workspace: ${repo.project} at ${repo.commit.slice(0, 12)}`)}`,
      `git init -q -b ${WORK_BRANCH} ${q(directory)}`,
      `cd ${q(directory)}`,
      `fetch ${q(url)} ${refspecs.join(" ")}`,
      `git checkout -q -B ${WORK_BRANCH} ${q(repo.commit)} || exit ${CHECKOUT_FAILED}`,
      // the refs as frozen; what was only fetched to have the objects goes with its loose files
      "rm -rf .git/refs/rackyard",
      ...(repo.state === undefined ? [] : [`tags ${q(url)} ${q(repo.state)}`]),
      `printf '%s\\n' ${[PACKED_REFS, ...packed.sort(byRef)].map(q).join(" ")} >.git/packed-refs`,
      `printf '%s\\n' ${ORIGIN.map(q).join(" ")} >>.git/config`,
    );
  }
  for (const file of files) {
    const encoded = Buffer.from(file.content, "utf8").toString("base64");
    lines.push(
      `mkdir -p ${q(file.path.slice(0, file.path.lastIndexOf("/")))}`,
      `(umask 077; printf %s ${q(encoded)} | base64 -d >${q(file.path)})`,
      `chmod ${file.mode} ${q(file.path)}`,
    );
  }
  return lines.join("\n");
}

/** What the script ends with where a checkout fails: by what the commit holds, if not the disk. */
export const CHECKOUT_FAILED = 71;

/**
 * Tags as frozen, which `git describe` and what is built on it need: the text of the state's
 * commit lists them by their objects. A hundred a fetch: a command line has its limits.
 */
const TAGS = [
  `tags() { git cat-file commit "$2" |`,
  `  sed -n 's,^\\([0-9a-f]*\\) \\(refs/tags/.*\\)$,+\\1:\\2,p' | tr '\\n' '\\0' |`,
  `  xargs -0 -r -n 100 git fetch -q --no-tags --no-write-fetch-head "$1"; }`,
];

const PACKED_REFS = "# pack-refs with: peeled fully-peeled sorted";
/** M-6: an origin that leads nowhere. */
const ORIGIN = [
  '[remote "origin"]',
  "\turl = file:///dev/null",
  "\tfetch = +refs/heads/*:refs/remotes/origin/*",
];

function byRef(x: string, y: string): number {
  const name = (line: string): string => line.slice(line.indexOf(" ") + 1);
  return name(x) < name(y) ? -1 : 1;
}

/** Free space of `/` and WORKSPACE: `<percent free> <KiB free>` a line (X-5). */
export const freeSpaceScript = `df -Pk / ${WORKSPACE} 2>/dev/null |
  awk 'NR > 1 && $2 > 0 { print int($4 * 100 / $2), $4 }'`;

/** X-5: less than 1 % or less than 16 MiB free is full. */
export function isDiskFull(answer: string): boolean {
  return answer
    .trim()
    .split("\n")
    .filter((line) => line !== "")
    .some((line) => {
      const [percent, kib] = line.split(" ").map(Number);
      return (percent ?? 100) < 1 || (kib ?? Infinity) < 16 * 1024;
    });
}
