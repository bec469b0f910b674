/**
 * Regular expressions as Zuul's users write them (Python's `re`), searched by an engine whose time
 * grows with the text alone (RE2's, as Zuul's own since its release note pcre-deprecation): the
 * text is a stranger's. Each expression means what Python means by it, or is a fault; the
 * differences are settled here: docs/decisions/linear-time-expressions.md.
 */
import { RE2JS } from "re2js";
import { limits } from "../../base/limits.ts";
import { translate } from "./python-regex.ts";
import { markedText, MARKS } from "./regex-marks.ts";

export type Regex = {
  readonly source: string;
  /** Is it found anywhere in the text? */
  test(text: string): boolean;
};

export type Translated =
  | { readonly regex: Regex; readonly fault?: undefined }
  | { readonly regex?: undefined; readonly fault: string };

export function translateRegex(source: string): Translated {
  if (source.length > limits.regexCharacters) {
    return { fault: `longer than ${limits.regexCharacters} characters` };
  }
  const plain = translate(source, false);
  if ("fault" in plain) return plain;
  const marked = plain.needsMarks ? translate(source, true) : undefined;
  if (marked && "fault" in marked) return marked;
  try {
    const engine = marked
      ? RE2JS.compile(`${MARKS}(?:${marked.pattern})`, RE2JS.LOOKBEHINDS)
      : RE2JS.compile(plain.pattern);
    const test = (text: string): boolean => engine.test(marked ? markedText(text) : text);
    return { regex: { source, test } };
  } catch (error) {
    return { fault: `too large or not known here (${(error as Error).message})` };
  }
}
