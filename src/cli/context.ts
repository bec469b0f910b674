/**
 * What every command finds: the options that all have, where the server is and with which token
 * (surface.md §2). Without `--url` a client reads `run/ready.json` under the state directory (or,
 * as another user than its owner, the address that the server tells to all), and so finds the
 * local installation by itself.
 */
import { readFile, realpath } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Client } from "../api/client.ts";
import { fail, isRackyardError } from "../base/errors.ts";
import { readTextIfAny } from "../base/files.ts";
import { sha256Hex } from "../base/ids.ts";
import type { Endpoint } from "../base/http-client.ts";
import { openOutput } from "./output.ts";
import type { Output, Streams } from "./output.ts";

/** Options that every command has. */
export type Globals = {
  readonly json: boolean;
  /** Absolute. */
  readonly state: string;
  readonly url: string | undefined;
  readonly tokenFile: string | undefined;
  readonly caFile: string | undefined;
  readonly config: string | undefined;
  readonly set: readonly string[];
};

export type CliContext = {
  readonly globals: Globals;
  readonly out: Output;
  /** Aborted at the first SIGINT or SIGTERM, unless the command minds signals itself. */
  readonly signal: AbortSignal;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where the API is, with the token to use. Throws `not-running`. */
  readonly endpoint: () => Promise<Endpoint>;
  readonly client: () => Promise<Client>;
};

export const defaultState = "/var/lib/rackyard";

export function globalsOf(
  options: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Globals {
  const text = (name: string): string | undefined =>
    typeof options[name] === "string" ? options[name] : undefined;
  return {
    json: options["json"] === true,
    state: resolve(text("state") ?? (env["RACKYARD_STATE"] || defaultState)),
    url: text("url") ?? (env["RACKYARD_URL"]?.trim() || undefined),
    tokenFile: text("tokenFile"),
    caFile: text("ca") ?? (env["RACKYARD_CA"] || undefined),
    config: text("config"),
    set: Array.isArray(options["set"]) ? (options["set"] as string[]) : [],
  };
}

export function contextOf(
  globals: Globals,
  env: Readonly<Record<string, string | undefined>>,
  signal: AbortSignal,
  streams?: Streams,
): CliContext {
  // Looked up each time: `demo` starts what it did not find.
  const endpoint = (): Promise<Endpoint> => findEndpoint(globals, env);
  return {
    globals,
    out: openOutput({ json: globals.json }, streams, env),
    signal,
    env,
    endpoint,
    client: async () => {
      const { openClient } = await import("../api/client.ts"); // `help` starts without it
      return openClient(await endpoint(), signal);
    },
  };
}

/** The token: `--token-file`, else `RACKYARD_TOKEN`, else that of the local installation. */
async function findEndpoint(
  globals: Globals,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Endpoint> {
  const given = globals.tokenFile
    ? await readToken(globals.tokenFile)
    : checkedToken(env["RACKYARD_TOKEN"], "RACKYARD_TOKEN");
  if (globals.url !== undefined) {
    return { url: httpUrl(globals.url), token: given, ca: await readCa(globals.caFile) };
  }
  const ready = await readTextIfAny(join(globals.state, "run", "ready.json")).catch((refusal) =>
    denied(refusal as NodeJS.ErrnoException, globals.state),
  );
  if (ready === undefined) return notRunning(globals.state);
  const { api, tokenFile } = JSON.parse(ready) as { api: string; tokenFile?: string | null };
  if (given !== undefined || !tokenFile) return { url: api, token: given };
  return { url: api, token: await readTextIfAny(tokenFile).then(trimmed, unreadable) };
}

/**
 * Where everybody on the machine finds the server of a state directory (its real path), while
 * `server.anonymousRead` lets everybody read.
 */
export function publicAddressFile(state: string): string {
  return join("/run/rackyard/servers", `${sha256Hex(state).slice(0, 16)}.json`);
}

function httpUrl(text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  return fail("usage", `--url: ${text} is no address of a server`, {
    remedy: "for example --url http://127.0.0.1:7225; rackyard status tells the local one",
  });
}

const trimmed = (text: string | undefined): string | undefined => text?.trim() || undefined;

/** Who may not read the installation's token still may read what is open to all. */
function unreadable(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "EACCES") throw error;
  return undefined;
}

/** The state directory is root's; where all may read, the server's address is told beside it. */
async function denied(refusal: NodeJS.ErrnoException, state: string): Promise<string> {
  if (refusal.code !== "EACCES") throw refusal;
  const real = await realpath(state).catch(() => state);
  const address = await readTextIfAny(publicAddressFile(real)).catch(() => undefined);
  if (address !== undefined) return address;
  return fail("not-allowed", "the state directory may not be read by this user", {
    remedy: "give --url and a token, or run this as root",
  });
}

/** The authority that signed the server's certificate, where the machine does not know it. */
async function readCa(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  const text = await readFile(path, "utf8").catch((error: unknown) =>
    fail("usage", `--ca: ${path} cannot be read`, { cause: error }),
  );
  if (text.includes("-----BEGIN CERTIFICATE-----")) return text;
  return fail("usage", `--ca: ${path} holds no certificate in PEM form`, {
    remedy: "give the authority's certificate, which begins with -----BEGIN CERTIFICATE-----",
  });
}

/** Secrets are pasted with what stands around them; what no header can carry is told. */
function checkedToken(text: string | undefined, where: string): string | undefined {
  const token = trimmed(text);
  if (token === undefined || /^[\x21-\x7e]+$/.test(token)) return token;
  return fail("usage", `${where} holds characters that no token has`);
}

async function readToken(path: string): Promise<string | undefined> {
  try {
    return checkedToken(await readFile(path, "utf8"), `the token file ${path}`);
  } catch (error) {
    if (isRackyardError(error)) throw error;
    return fail("usage", `the token file ${path} cannot be read`, { cause: error });
  }
}

function notRunning(state: string): never {
  return fail("not-running", `no Rackyard runs with the state directory ${state}`, {
    remedy: "start one with ./rackyard up, or name a server with --url",
  });
}
