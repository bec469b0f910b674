import { expect, test } from "vitest";
import { z } from "zod";
import { schemaWords } from "./schema-words.ts";

const words = (schema: z.ZodType, value: unknown): string[] =>
  schema.safeParse(value).error?.issues.map(schemaWords) ?? [];

test.each<[string, z.ZodType, unknown]>([
  ["must be a list", z.array(z.string()), 5],
  ["must be a map", z.object({}), "x"],
  ["must be text", z.string(), 5],
  ["must be a whole number", z.int(), 1.5],
  ["must be a number", z.number(), "1"],
  ["must be true or false", z.boolean(), "maybe"],
  ["must be at least 1", z.number().min(1), 0],
  ["must be more than 0", z.number().positive(), 0],
  ["must be at most 9", z.number().max(9), 10],
  ["must have at most 2 characters", z.string().max(2), "abc"],
  ["must have at least 1 parts", z.array(z.string()).min(1), []],
  ["must be a multiple of 4", z.number().multipleOf(4), 5],
  ["allowed: a, b", z.enum(["a", "b"]), "c"],
  ["must be text, or must be a list", z.union([z.string(), z.array(z.string())]), 5],
  ["must be of the form /^a+$/", z.string().regex(/^a+$/), "b"],
  ["must be a uuid", z.uuid(), "b"],
  ["say it so", z.string({ error: "say it so" }), 5],
])("surface.md §7 a fault says what is asked, in its writer's words: %s", (said, schema, value) => {
  expect(words(schema, value)).toEqual([said]);
});
