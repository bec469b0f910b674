/**
 * The archive's own `index.html` of a build: what ran, how it ended, which files there are.
 * Pure; all text is escaped; no script, no style from elsewhere (it is served in a sandbox).
 */

export type IndexFacts = {
  readonly job: string;
  readonly project: string;
  readonly change: string;
  readonly result: string;
  readonly buildUrl: string;
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
  /** Sentences: what the job left and the archive has not. */
  readonly missing: readonly string[];
};

export function indexPage(facts: IndexFacts): string {
  const rows = facts.files.map(
    (file) =>
      `<tr><td><a href="${attribute(encodePath(file.path))}">${text(file.path)}</a></td>` +
      `<td class="n">${sizeText(file.bytes)}</td></tr>`,
  );
  const sentences = facts.missing.map((one) => `<li>${text(one)}</li>`);
  const missing =
    sentences.length === 0 ? "" : `<h2>Not archived</h2>\n<ul>${sentences.join("\n")}</ul>\n`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${text(facts.job)} · ${text(facts.change)} · ${text(facts.result)}</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td { padding: .25rem .5rem; border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
</style></head><body>
<h1>${text(facts.job)}: ${text(facts.result)}</h1>
<p>${text(facts.project)}, change ${text(facts.change)} ·
<a href="${attribute(facts.buildUrl)}">build page</a></p>
<table><tbody>
${rows.join("\n")}
</tbody></table>
${missing}</body></html>
`;
}

/** `1.4 MiB`, as people read sizes. */
export function sizeText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

export function text(value: string): string {
  return value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function attribute(value: string): string {
  return text(value).replaceAll('"', "&quot;");
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
