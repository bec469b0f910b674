/**
 * Stand-alone program (node: only), copied to `<state>/bin`: git's pre-receive and proc-receive
 * hook. It decides nothing: it hands its input to the server on the private socket and does what
 * the server says. First line to the server: JSON `{ push, hook, objects, options }`, then stdin as
 * it is. From the server, JSON lines: `{ out }` base64 for git, `{ err }` a line for the pusher,
 * `{ exit }` the end. Without an answer the push is refused.
 */
import { createConnection } from "node:net";
import { createInterface } from "node:readline";

const environment = (name: string): string => process.env[name] ?? "";

function give(sentence: string): never {
  process.stderr.write(`error: ${sentence}\n`);
  process.exit(1);
}

const objects: Record<string, string> = {};
for (const name of ["GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"]) {
  if (environment(name) !== "") objects[name] = environment(name);
}
// githooks(5): what `git push -o` gave
const count = Math.min(Number(environment("GIT_PUSH_OPTION_COUNT")) || 0, 100);
const options = Array.from({ length: count }, (_, n) => environment(`GIT_PUSH_OPTION_${n}`));
const push = environment("RACKYARD_PUSH");
const socket = createConnection({ path: environment("RACKYARD_HOOK_SOCKET"), allowHalfOpen: true });
socket.on("error", (error) => give(`the review system does not answer (${error.message})`));
socket.setTimeout(Number(environment("RACKYARD_HOOK_MS")), () =>
  give("the review system does not answer in time: push again"),
);
socket.write(`${JSON.stringify({ push, hook: process.argv[2], objects, options })}\n`);
process.stdin.pipe(socket);

let code: number | undefined;
const lines = createInterface({ input: socket, crlfDelay: Infinity });
lines.on("line", (line) => {
  const said = JSON.parse(line) as { out?: string; err?: string; exit?: number };
  if (said.out !== undefined) process.stdout.write(Buffer.from(said.out, "base64"));
  if (said.err !== undefined) process.stderr.write(`${said.err}\n`);
  if (said.exit !== undefined) code = said.exit;
});
lines.on("close", () => {
  if (code === undefined) give("the review system went away: push again");
  process.exitCode = code;
  process.stdin.destroy();
  socket.destroy();
});
