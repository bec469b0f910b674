/**
 * Changes and builds over HTTP (surface.md §5): looking, commenting, voting, abandoning; a
 * build's time line, console and files. What a label allows, the review system's views decide.
 */
import { fail } from "../base/errors.ts";
import { problemOf } from "./problem.ts";
import { route } from "./route.ts";
import type { Route } from "./route.ts";
import * as schemas from "./schemas.ts";
import { eventStream, plainStream } from "./stream.ts";
import type { StreamEvent } from "./stream.ts";
import type { BuildViews, ChangeViews, ConsoleLine } from "./views.ts";

const reader = { kind: "role", role: "reader" } as const;
const developer = { kind: "role", role: "developer" } as const;
const build = { status: 200, description: "the build", schema: schemas.Build } as const;

const change = { status: 200, description: "the change", schema: schemas.Change } as const;

const changeAddress = ({ number }: { readonly number: number }): string => `/v1/changes/${number}`;

export function changeRoutes(changes: ChangeViews): Route[] {
  return [...changeLookRoutes(changes), ...changeActRoutes(changes)];
}

function changeActRoutes(changes: ChangeViews): Route[] {
  const tag = "changes";
  const act = (name: "abandon" | "restore", summary: string): Route =>
    route({
      method: "post",
      path: `/v1/changes/{number}/${name}`,
      tag,
      summary,
      access: developer,
      params: schemas.numberParams,
      answer: change,
      current: ({ number }) => changes.get(number),
      handle: ({ params, caller }) => changes[name](params.number, caller),
    });
  return [
    route({
      method: "post",
      path: "/v1/changes/{number}/comments",
      tag,
      summary: "Say something; `recheck` starts the checks again",
      access: developer,
      params: schemas.numberParams,
      body: schemas.CommentRequest,
      creates: true,
      location: changeAddress,
      answer: { ...change, status: 201 },
      current: ({ number }) => changes.get(number),
      handle: ({ params, body, caller }) => changes.comment(params.number, body.message, caller),
    }),
    route({
      method: "post",
      path: "/v1/changes/{number}/votes",
      tag,
      summary: "Vote on the current patchset",
      access: developer,
      params: schemas.numberParams,
      body: schemas.VoteRequest,
      creates: true,
      location: changeAddress,
      answer: { ...change, status: 201 },
      current: ({ number }) => changes.get(number),
      handle: ({ params, body, caller }) => changes.vote(params.number, body, caller),
    }),
    act("abandon", "Give the change up"),
    act("restore", "Take it up again"),
  ];
}

function changeLookRoutes(changes: ChangeViews): Route[] {
  const tag = "changes";
  return [
    route({
      method: "get",
      path: "/v1/changes",
      tag,
      summary: "Changes, newest first",
      access: reader,
      query: schemas.changesQuery,
      answer: {
        status: 200,
        description: "a page",
        schema: schemas.pageOf(schemas.ChangeSummary, "ChangePage"),
      },
      handle: ({ query }) => changes.list(query),
    }),
    route({
      method: "get",
      path: "/v1/changes/{number}",
      tag,
      summary: "One change",
      access: reader,
      params: schemas.numberParams,
      answer: change,
      single: true,
      handle: ({ params }) => changes.get(params.number),
    }),
  ];
}

export function buildRoutes(builds: BuildViews): Route[] {
  const tag = "builds";
  return [
    route({
      method: "get",
      path: "/v1/builds",
      tag,
      summary: "Builds, newest first",
      access: reader,
      query: schemas.buildsQuery,
      answer: {
        status: 200,
        description: "a page",
        schema: schemas.pageOf(schemas.Build, "BuildPage"),
      },
      handle: ({ query }) => builds.list(query),
    }),
    route({
      method: "get",
      path: "/v1/builds/{id}",
      tag,
      summary: "One build, by its id or the first digits of it",
      access: reader,
      params: schemas.idParams,
      answer: build,
      single: true,
      handle: async ({ params }) => builds.get(await builds.whole(params.id)),
    }),
    ...buildDetailRoutes(builds, tag),
    consoleRoute(builds, tag),
    route({
      method: "post",
      path: "/v1/builds/{id}/cancel",
      tag,
      summary: "Stop it: CANCELED, no vote",
      access: { kind: "role", role: "operator" },
      params: schemas.uuidParams,
      answer: build,
      current: ({ id }) => builds.get(id),
      handle: ({ params, caller }) => builds.cancel(params.id, caller),
    }),
    ...pipelineRoutes(builds),
  ];
}

function buildDetailRoutes(builds: BuildViews, tag: string): Route[] {
  return [
    route({
      method: "get",
      path: "/v1/builds/{id}/timeline",
      tag,
      summary: "What happened when",
      access: reader,
      params: schemas.uuidParams,
      answer: {
        status: 200,
        description: "in order",
        schema: schemas.pageOf(schemas.TimelineEntry, "Timeline"),
      },
      handle: async ({ params }) => ({ items: await builds.timeline(params.id), next: null }),
    }),
    route({
      method: "get",
      path: "/v1/builds/{id}/files",
      tag,
      summary: "What is archived of it, by path",
      access: reader,
      params: schemas.uuidParams,
      answer: {
        status: 200,
        description: "all",
        schema: schemas.pageOf(schemas.ArchivedFile, "ArchivedFilePage"),
      },
      handle: async ({ params }) => ({ items: await builds.files(params.id), next: null }),
    }),
  ];
}

function pipelineRoutes(builds: BuildViews): Route[] {
  const tag = "pipelines";
  return [
    route({
      method: "get",
      path: "/v1/pipelines",
      tag,
      summary: "Pipelines with what waits and runs in them, and why it waits",
      access: reader,
      query: schemas.None,
      answer: {
        status: 200,
        description: "all",
        schema: schemas.pageOf(schemas.Pipeline, "PipelinePage"),
      },
      handle: async () => ({ items: await builds.pipelines(), next: null }),
    }),
    route({
      method: "get",
      path: "/v1/pipelines/{name}",
      tag,
      summary: "One pipeline",
      access: reader,
      params: schemas.nameParams,
      answer: { status: 200, description: "the pipeline", schema: schemas.Pipeline },
      single: true,
      handle: async ({ params: { name } }) =>
        (await builds.pipelines()).find((one) => one.name === name) ??
        fail("not-found", `there is no pipeline ${name}`),
    }),
  ];
}

function consoleRoute(builds: BuildViews, tag: string): Route {
  return route({
    method: "get",
    path: "/v1/builds/{id}/console",
    tag,
    summary: "Its console: text as far as it goes; ?follow streams events, a line each",
    access: reader,
    params: schemas.uuidParams,
    query: schemas.consoleQuery,
    answer: { status: 200, description: "lines with their times", type: "text/plain" },
    handle: async ({ params: { id }, query, signal, accepts, header }) => {
      await builds.get(id);
      const gone = new AbortController();
      const over = AbortSignal.any([signal, gone.signal]);
      const stop = (): void => gone.abort();
      if ((query.follow ?? false) || accepts("text/event-stream")) {
        const last = Number(header("last-event-id") ?? Number.NaN);
        const after = Number.isInteger(last) && last >= 0 ? last : query.after;
        return eventStream(lineEvents(builds.console(id, after, over, true)), stop, problemOf);
      }
      const lines = linesOf(builds.console(id, query.after, over, false));
      return plainStream(lines, stop, "text/plain; charset=utf-8");
    },
  });
}

async function* lineEvents(source: AsyncIterable<ConsoleLine>): AsyncGenerator<StreamEvent> {
  for await (const { seq, line } of source) yield { id: seq, event: "line", data: line };
  yield { event: "end", data: {} };
}

/** Texts of many lines: a long console in as many pieces as lines takes seconds. */
async function* linesOf(source: AsyncIterable<ConsoleLine>): AsyncGenerator<string> {
  let text = "";
  for await (const { line } of source) {
    text += `${line}\n`;
    if (text.length < 32 * 1024) continue;
    yield text;
    text = "";
  }
  if (text !== "") yield text;
}
