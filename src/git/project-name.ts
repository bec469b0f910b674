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

/** Control characters, blanks and what git-check-ref-format(1) forbids. */
// oxlint-disable-next-line no-control-regex
const NEVER_IN_REF = /[\u0000-\u0020\u007f-\u00a0~^:?*[\\]/;
/** What makes a name look like another one on a screen: format, private and unpaired characters. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/u;

/**
 * What is wrong with a branch's or tag's name, as the rest of "… is no name for …"; undefined
 * for one that can be: git's own rule, without what cannot be seen, and at most 200 bytes.
 */
export function refNameFault(name: string): string | undefined {
  if (name === "" || Buffer.byteLength(name) > 200) return "1 to 200 bytes";
  if (name.startsWith("refs/") || name === "HEAD" || name === "@" || name.startsWith("-")) {
    return "it must not be HEAD or @, nor begin with refs/ or -";
  }
  if (NEVER_IN_REF.test(name) || UNSEEN.test(name) || name.includes("@{")) {
    return "no blanks, no invisible characters, none of ~ ^ : ? * [ \\ and no @{";
  }
  if (/\.\.|\/\/|(?:^|\/)\.|^\/|\/$|\.$|\.lock(?:\/|$)/.test(name)) {
    return "no '..' or '//', no part that begins with . or ends in .lock, no / or . at the end";
  }
  return undefined;
}

/** Branches and tags: see {@link refNameFault}. */
export function isRefName(name: string): boolean {
  return refNameFault(name) === undefined;
}

/** The whole name of an object: 40 hex digits (SHA-1), or 64 (SHA-256). */
export function isObjectId(text: string): boolean {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(text);
}

export function isZeroId(id: string): boolean {
  return /^0+$/.test(id);
}
