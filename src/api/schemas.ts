/**
 * The shapes of requests and answers: model's schemas under the names they have in the OpenAPI
 * document, and those that only the API has. Every object is strict: unknown fields are refused.
 */
import { z } from "@hono/zod-openapi";
import { limits } from "../base/limits.ts";
import { buildResults, buildStates, buildViewSchema, timelineEntrySchema } from "../model/build.ts";
import {
  changeStatuses,
  changeSummarySchema,
  changeViewSchema,
  commentRequestSchema,
  voteRequestSchema,
} from "../model/change.ts";
import { tokenRequestSchema, tokenViewSchema } from "../model/identity.ts";
import {
  extendSchema,
  leaseGrantedSchema,
  leasePatchSchema,
  leaseRequestSchema,
  leaseStates,
  leaseViewSchema,
} from "../model/lease.ts";
import { imageViewSchema, nodeViewSchema } from "../model/node.ts";
import {
  certificateSchema,
  hostViewSchema,
  testenvDataSchema,
  epochSchema,
  testenvIdSchema,
  testenvViewSchema,
} from "../model/testenv.ts";

/** A schema under its name; model's were made before this library could mark them. */
function named<S extends z.ZodType>(schema: S, name: string, example?: z.input<S>): S {
  return schema.clone().openapi(name, example === undefined ? {} : { example });
}

export const Lease = named(leaseViewSchema, "Lease");
export const LeaseCreated = named(leaseGrantedSchema, "LeaseCreated");
export const LeaseRequest = named(leaseRequestSchema, "LeaseRequest", {
  machines: { count: 2, memoryMiB: 4_096 },
  labels: "ipv6 && !slow",
  durationSeconds: 90,
  waitSeconds: 60,
  holder: { name: "nightly-4711", url: "https://ci.example.org/nightly/4711" },
});
export const LeasePatch = named(leasePatchSchema, "LeasePatch", { takeable: true });
export const Extend = named(extendSchema, "Extend", { durationSeconds: 60 });
export const TestenvData = named(testenvDataSchema, "TestenvData");
export const Certificate = named(certificateSchema, "Certificate");
export const Testenv = named(testenvViewSchema, "Testenv");
export const Host = named(hostViewSchema, "Host");
export const Change = named(changeViewSchema, "Change");
export const ChangeSummary = named(changeSummarySchema, "ChangeSummary");
export const CommentRequest = named(commentRequestSchema, "CommentRequest", { message: "recheck" });
export const VoteRequest = named(voteRequestSchema, "VoteRequest", {
  label: "Code-Review",
  value: 2,
});
export const Build = named(buildViewSchema, "Build");
export const TimelineEntry = named(timelineEntrySchema, "TimelineEntry");
export const Node = named(nodeViewSchema, "Node");
export const Image = named(imageViewSchema, "Image");
export const Token = named(tokenViewSchema, "Token");
export const TokenCreated = named(tokenViewSchema.extend({ token: z.string() }), "TokenCreated");
export const TokenRequest = named(tokenRequestSchema, "TokenRequest", {
  name: "nightly",
  role: "holder",
  groups: ["nightly"],
});

export const Pipeline = z
  .strictObject({
    name: z.string(),
    manager: z.string(),
    items: z.array(
      z.strictObject({
        id: z.string(),
        change: z.int(),
        patchset: z.int(),
        project: z.string(),
        enqueuedAt: z.string(),
        jobs: z.array(
          z.strictObject({
            name: z.string(),
            build: z.string().nullable(),
            state: z.string(),
            result: z.string().nullable(),
            why: z.string().nullable(),
          }),
        ),
      }),
    ),
  })
  .openapi("Pipeline");

export const eventTopics = ["change", "item", "build", "lease", "testenv", "host", "node"] as const;
export const Event = z
  .strictObject({
    id: z.int(),
    topic: z.enum(eventTopics),
    at: z.string(),
    subject: z.string(),
    event: z.string(),
    body: z.looseObject({}),
  })
  .openapi("Event");

export const Problem = z
  .strictObject({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string(),
    detail: z.string(),
    remedy: z.string().optional(),
    errors: z.array(
      z.strictObject({
        pointer: z.string(),
        code: z.string(),
        detail: z.string(),
        remedy: z.string().optional(),
      }),
    ),
  })
  .openapi("Problem");

export const File = z.strictObject({ name: z.string(), bytes: z.int() }).openapi("LeaseFile");
export const ArchivedFile = z
  .strictObject({ path: z.string(), bytes: z.int() })
  .openapi("ArchivedFile");
export const Reloaded = z
  .strictObject({ layout: z.string(), projects: z.int(), jobs: z.int() })
  .openapi("Reloaded");
export const Health = z
  .strictObject({ ok: z.boolean(), problems: z.array(z.string()) })
  .openapi("Health");
/** surface.md §8 says what stands in it. */
export const Status = z.looseObject({ event: z.string() }).openapi("Status");

/** A list's page: `next` is the cursor of the next one, null at the end. */
export function pageOf(item: z.ZodType, name: string): z.ZodType {
  return z.strictObject({ items: z.array(item), next: z.string().nullable() }).openapi(name);
}

// --- what comes in by path and query: always text

const count = z.coerce.number().int();
const flag = z.enum(["", "true", "false", "1", "0"]).transform((v) => v !== "false" && v !== "0");

/** `30s`, `500ms`, `2m`; seconds without a unit. In milliseconds, cut at the longest poll. */
export const waitMs = z
  .string()
  .regex(/^[0-9]{1,9}(ms|s|m)?$/, "must be a time such as 30s")
  .transform((text) => {
    const unit = text.endsWith("ms") ? 1 : text.endsWith("m") ? 60_000 : 1_000;
    return Math.min(Number.parseInt(text, 10) * unit, limits.longPollMs);
  });

export const paging = {
  limit: count.min(1).max(limits.pageItems).default(limits.pageItemsDefault),
  cursor: z.string().max(500).optional(),
};
export const None = z.strictObject({});
export const uuidParams = z.strictObject({ id: z.uuid() });
/** An id, or its first digits where they are unique. */
export const idParams = z.strictObject({
  id: z.string().regex(/^[0-9a-f][0-9a-f-]{3,35}$/, "must be an id or its first 4 digits or more"),
});
export const testenvParams = z.strictObject({ id: testenvIdSchema });
export const numberParams = z.strictObject({ number: count.min(1) });
export const nameParams = z.strictObject({ name: z.string().max(200) });
/** A file's name under a lease: no path. */
export const leaseFileParams = z.strictObject({
  id: z.uuid(),
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/, "must be a plain file name"),
});
/** Whose file it is: the grant that the host had. */
export const hostFileQuery = z.strictObject({ te: testenvIdSchema, epoch: epochSchema });
export const consoleParams = z.strictObject({
  id: testenvIdSchema,
  machine: z.string().regex(/^[a-z0-9-]{1,63}$/, "must be a machine's name"),
});
export const leaseQuery = z.strictObject({ wait: waitMs.optional() });
export const leasesQuery = z.strictObject({
  ...paging,
  holder: z.string().optional(),
  group: z.string().optional(),
  project: z.string().optional(),
  te: z.string().optional(),
  state: z.enum(leaseStates).optional(),
  since: z.iso.datetime().optional(),
});
export const changesQuery = z.strictObject({
  ...paging,
  project: z.string().optional(),
  status: z.enum(changeStatuses).optional(),
  owner: z.string().optional(),
});
export const buildsQuery = z.strictObject({
  ...paging,
  change: count.optional(),
  project: z.string().optional(),
  pipeline: z.string().optional(),
  job: z.string().optional(),
  state: z.enum(buildStates).optional(),
  result: z.enum(buildResults).optional(),
});
export const consoleQuery = z.strictObject({
  follow: flag.optional(),
  /** Lines after this one. */
  after: count.min(0).default(0),
});
export const machineConsoleQuery = z.strictObject({
  follow: flag.optional(),
  from: count.min(0).default(0),
});
export const eventsQuery = z.strictObject({
  topic: z
    .union([z.string(), z.array(z.string())])
    .optional()
    .transform((value) => [value ?? []].flat().flatMap((text) => text.split(",")))
    .pipe(z.array(z.enum(eventTopics))),
  after: count.min(0).optional(),
  wait: waitMs.optional(),
  /** `false`: no event `state` first. */
  state: flag.optional(),
});
