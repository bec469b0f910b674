/**
 * The roles by themselves (surface.md §6), without the schemas that use them: the command line's
 * help names them, and starts without the library that checks.
 */

/** Each may what the former may. */
export const roles = ["reader", "holder", "developer", "operator", "admin"] as const;
