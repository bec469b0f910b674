/**
 * Looks for evidence in a build's files (ci.md L-4): its console and its machines'. Of a file too
 * long to read in time its beginning and its end are looked at; lines between are counted.
 */
import { openLineSplitter } from "../../base/lines.ts";
import { limits } from "../../base/limits.ts";
import type { Evidence } from "../../model/build.ts";
import type { ArchiveStore, StoredFile } from "./archive-store.ts";
import { chooseEvidence, searchEvidence } from "./evidence.ts";
import type { EvidenceSearch } from "./evidence.ts";

/** A rack has 16 machines. */
const FILES = 32;

export async function findEvidence(
  store: ArchiveStore,
  logsPath: string,
  signal: AbortSignal,
): Promise<Evidence[]> {
  const rack = (await store.entries(`${logsPath}/rack`)).map(({ name }) => name);
  const consoles = rack.filter((name) => /^console-.*\.log$/.test(name)).slice(0, FILES);
  const found: Evidence[] = [];
  for (const path of [...consoles.map((name) => `rack/${name}`), "console.log"]) {
    const file = await store.get(`${logsPath}/${path}`);
    if (!file) continue;
    const search = searchEvidence(path, path === "console.log");
    await read(file, search, signal);
    found.push(...search.found());
  }
  return chooseEvidence(found);
}

async function read(file: StoredFile, search: EvidenceSearch, signal: AbortSignal): Promise<void> {
  const splitter = openLineSplitter(limits.storedLineBytes, (line) => search.push(line));
  const tailAt = Math.max(limits.evidenceHeadBytes, file.bytes - limits.evidenceTailBytes);
  let at = 0;
  for await (const chunk of file.read() as AsyncIterable<Buffer>) {
    signal.throwIfAborted();
    const begin = at;
    at += chunk.length;
    if (at <= limits.evidenceHeadBytes || begin >= tailAt) splitter.push(chunk);
    // a line that reaches into what is skipped is counted at the newline it ends with
    else search.skip(newlines(chunk));
  }
  splitter.end();
}

function newlines(chunk: Buffer): number {
  let count = 0;
  for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, at + 1)) count++;
  return count;
}
