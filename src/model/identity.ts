/**
 * Roles and who is asking (surface.md §6). Each role may what the former may.
 */
import { z } from "zod";
import { roles } from "./roles.ts";

export const roleSchema = z.enum(roles);
export type Role = z.output<typeof roleSchema>;

export function mayAct(role: Role, atLeast: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(atLeast);
}

/** Who is behind a request. `name` is the token's name, and so the user's. */
export type Caller = {
  readonly name: string;
  readonly role: Role;
  readonly groups: readonly string[];
};

export const userNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, "must be a name of a-z 0-9 . _ -, at most 63 characters");

export const tokenRequestSchema = z.strictObject({
  name: userNameSchema,
  role: roleSchema.default("developer"),
  groups: z.array(z.string().max(100)).max(100).default([]),
  expiresInSeconds: z
    .int()
    .min(60)
    .max(10 * 365 * 86_400)
    .optional(),
});

export const tokenViewSchema = z.strictObject({
  id: z.string(),
  name: z.string(),
  role: roleSchema,
  groups: z.array(z.string()),
  createdAt: z.string(),
  expiresAt: z.string().nullable(),
});
export type TokenView = z.output<typeof tokenViewSchema>;
