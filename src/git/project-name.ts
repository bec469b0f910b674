/**
 * Names that come from outside and become paths and refs: projects and branches. What passes
 * here is safe as a path below the repositories' folder, in a URL and as git's argument.
 */
import { fail } from "../base/errors.ts";
import { pathNameFault } from "../base/path-name.ts";

/** `name` or `group/name`, by the rule that the layout has too: base/path-name.ts. */
export function isProjectName(name: string): boolean {
  return pathNameFault(name) === undefined;
}

/** The name itself; throws `unknown-project` for what can be none. */
export function checkProjectName(name: string): string {
  const fault = pathNameFault(name);
  if (fault !== undefined) {
    const shown = JSON.stringify(name.slice(0, 200));
    fail("unknown-project", `${shown} is no name of a project`, { remedy: `it ${fault}` });
  }
  return name;
}

/** git-check-ref-format(1) for branches, stricter: printable ASCII, no leading dash, ≤ 200. */
export function isBranchName(name: string): boolean {
  return (
    name.length <= 200 &&
    /^[A-Za-z0-9_][A-Za-z0-9._+/#-]*$/.test(name) &&
    !/\.\.|\/\/|\/\.|\/$|\.$|\.lock(?:\/|$)/.test(name) &&
    !name.startsWith("refs/")
  );
}

/** The whole name of an object: 40 hex digits (SHA-1), or 64 (SHA-256). */
export function isObjectId(text: string): boolean {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(text);
}

export function isZeroId(id: string): boolean {
  return /^0+$/.test(id);
}
