/**
 * Words for the shell on a node: pure. What runs there is one text that its shell reads.
 */

/** POSIX shell quoting (XCU §2.2.2): the text as one word. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
