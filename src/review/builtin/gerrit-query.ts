/**
 * `GET /changes/?q=…` as Gerrit answers it (its REST API, "Query Changes"), so far as its
 * command-line clients need it to list open changes and to fetch one: `git review -l`, `-d N`.
 * Operators: project:, branch:, status:, owner:, change:, a number, a Change-Id, all of them AND.
 * Anything else is refused by name: an answer to another question would be worse than none.
 */
import type { ServerResponse } from "node:http";
import { isoTime } from "../../base/clock.ts";
import { fail, isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { changeRef } from "../../model/change.ts";
import type { LifeRow } from "../../store/store.ts";
import { currentPatchset } from "./change.ts";
import type { Change } from "./change.ts";
import type { Changes } from "./changes.ts";

/** Against cross-site inclusion; clients cut it off. */
const MAGIC = ")]}'\n";
const DEFAULT_ROWS = 100;

export type GerritQuery = {
  readonly where: { readonly a?: string; readonly b?: string; readonly c?: string };
  readonly branch: string | undefined;
  readonly changeId: string | undefined;
  readonly number: number | undefined;
  readonly most: number;
  readonly revisions: "none" | "current" | "all";
};

const statuses: Readonly<Record<string, string | null>> = {
  open: "NEW",
  new: "NEW",
  pending: "NEW",
  merged: "MERGED",
  abandoned: "ABANDONED",
};

/** Throws `bad-request`, naming what is not understood. */
export function parseGerritQuery(query: URLSearchParams): GerritQuery {
  const where: { a?: string; b?: string; c?: string } = {};
  let branch: string | undefined;
  let changeId: string | undefined;
  let number: number | undefined;
  for (const term of (query.get("q") ?? "").split(/\s+/).filter(Boolean)) {
    const [, operator = "", value = ""] = /^(?:([a-z]+):)?"?(.*?)"?$/s.exec(term)!;
    if (operator === "project" || operator === "p") {
      // a client knows the project by its path in the address of git
      where.a = value.replace(/^\/?git\//, "").replace(/\.git$/, "");
    } else if (operator === "branch") branch = value.replace(/^refs\/heads\//, "");
    else if (operator === "owner" && value !== "self") where.c = value;
    else if ((operator === "status" || operator === "is") && Object.hasOwn(statuses, value)) {
      where.b = statuses[value]!;
    } else if (/^(?:change)?$/.test(operator) && /^[1-9][0-9]{0,9}$/.test(value)) {
      number = Number(value);
    } else if (/^(?:change)?$/.test(operator) && /^I[0-9a-f]{40}$/i.test(value)) {
      changeId = `I${value.slice(1).toLowerCase()}`;
    } else {
      fail("bad-request", `${JSON.stringify(term.slice(0, 100))} is not understood here`, {
        remedy: "understood are project:, branch:, status:, owner:, a number, a Change-Id",
      });
    }
  }
  const wanted = query.getAll("o");
  const most = Number(query.get("n") ?? DEFAULT_ROWS);
  return {
    where,
    branch,
    changeId,
    number,
    most: Number.isInteger(most) && most > 0 ? Math.min(most, limits.pageItems) : DEFAULT_ROWS,
    revisions: wanted.includes("ALL_REVISIONS")
      ? "all"
      : wanted.includes("CURRENT_REVISION")
        ? "current"
        : "none",
  };
}

/** Answers the request; the caller has seen to it that it may read. */
export async function answerGerritQuery(
  changes: Pick<Changes, "rows" | "row">,
  url: string,
  query: URLSearchParams,
  response: ServerResponse,
): Promise<void> {
  const answer = (status: number, type: string, text: string): void => {
    response.writeHead(status, {
      "Content-Type": `${type}; charset=utf-8`,
      "X-Content-Type-Options": "nosniff",
      "Cache-Control": "no-cache",
    });
    response.end(text);
  };
  try {
    const asked = parseGerritQuery(query);
    const rows = await find(changes, asked);
    const body = JSON.stringify(rows.map((row) => gerritChange(row, asked.revisions, url)));
    answer(200, "application/json", `${MAGIC}${body}\n`);
  } catch (error) {
    if (!isRackyardError(error) || error.httpStatus >= 500) throw error;
    answer(error.httpStatus, "text/plain", `${error.message}: ${error.remedy ?? ""}\n`);
  }
}

async function find(
  changes: Pick<Changes, "rows" | "row">,
  asked: GerritQuery,
): Promise<LifeRow<Change>[]> {
  const fits = ({ body: change }: LifeRow<Change>): boolean =>
    (asked.branch === undefined || change.branch === asked.branch) &&
    (asked.changeId === undefined || change.changeId === asked.changeId) &&
    (asked.where.a === undefined || change.project === asked.where.a) &&
    (asked.where.b === undefined || change.status === asked.where.b) &&
    (asked.where.c === undefined || change.owner === asked.where.c);
  if (asked.number !== undefined) {
    const row = await changes.row(asked.number);
    return row && fits(row) ? [row] : [];
  }
  const found: LifeRow<Change>[] = [];
  let after: LifeRow<Change> | undefined;
  // what is not indexed is looked for in so many pages at most
  for (let page = 0; page < 10 && found.length < asked.most; page++) {
    const query = { where: asked.where, newestFirst: true, limit: limits.pageItems, after };
    const rows = await changes.rows(query);
    found.push(...rows.filter(fits));
    after = rows.at(-1);
    if (rows.length < limits.pageItems) break;
  }
  return found.slice(0, asked.most);
}

/** Gerrit's ChangeInfo, its RevisionInfo and FetchInfo, the part that clients read. */
function gerritChange(
  row: LifeRow<Change>,
  revisions: GerritQuery["revisions"],
  url: string,
): object {
  const change = row.body;
  const current = currentPatchset(change);
  const shown =
    revisions === "all" ? change.patchsets : revisions === "current" ? [current] : undefined;
  const part = (text: string): string => encodeURIComponent(text);
  return {
    id: `${part(change.project)}~${part(change.branch)}~${change.changeId}`,
    project: change.project,
    branch: change.branch,
    change_id: change.changeId,
    subject: current.subject,
    status: change.status,
    created: gerritTime(isoTime(row.createdMs)),
    updated: gerritTime(current.createdAt),
    _number: change.number,
    owner: { name: change.owner, username: change.owner },
    ...(shown === undefined
      ? {}
      : {
          current_revision: current.commit,
          revisions: Object.fromEntries(
            shown.map((one) => [one.commit, revision(change, one.number, url)]),
          ),
        }),
  };
}

function revision(change: Change, patchset: number, url: string): object {
  const ref = changeRef(change.number, patchset);
  const of = change.patchsets[patchset - 1]!;
  return {
    _number: patchset,
    created: gerritTime(of.createdAt),
    ref,
    fetch: { http: { url: `${url}/git/${change.project}`, ref } },
  };
}

/** `2026-01-01 00:00:00.000000000`, in UTC. */
function gerritTime(iso: string): string {
  const [, day = "", time = "", fraction = ""] = /^(\S+)T([\d:]+)(?:\.(\d+))?Z$/.exec(iso) ?? [];
  return `${day} ${time}.${fraction.padEnd(9, "0")}`;
}
