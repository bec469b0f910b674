#!/run/rackyard-gate/bin/node
/**
 * The gate (H-6.2, H-6.5): login shell of a TE's account, started by sshd as
 * `te-shell -c "te-shell --lease L --epoch E"` with the client's words in SSH_ORIGINAL_COMMAND.
 * Hands them to the agent by the TE's own socket and prints its answer; decides nothing itself.
 * Stand-alone: copied to the gate's folder with its Node, so it uses `node:` alone.
 *
 * To the agent: one line of JSON, then stdin's bytes if it asks for them. From it, lines of
 * JSON: {"want":"stdin"}, and last {"stdout","stderr","exitCode"}.
 */
import { connect } from "node:net";
import type { Socket } from "node:net";
import { userInfo } from "node:os";
import { setTimeout as pause } from "node:timers/promises";

/** An agent that is away is waited for so long (H-6.5). */
const WAIT_MS = 10_000;
const RETRY_MS = 100;
const SOCKETS = "/run/rackyard-gate/sockets";

type Answer = { stdout: string; stderr: string; exitCode: number };

async function main(): Promise<number> {
  // The agent's own look at the gate: the way in works as far as here, and goes no further.
  if (process.argv[2] === "-c" && process.argv[3] === "te-shell --probe") {
    return print({ stdout: "well\n", stderr: "", exitCode: 0 });
  }
  const forced = /^te-shell --lease ([0-9a-f-]{36}) --epoch ([0-9]{1,15})$/.exec(
    process.argv[2] === "-c" ? (process.argv[3] ?? "") : "",
  );
  const command = process.env["SSH_ORIGINAL_COMMAND"];
  if (!forced || command === undefined || command === "") return refuse("No command");
  const header = {
    lease: forced[1],
    epoch: forced[2],
    command,
    from: (process.env["SSH_CONNECTION"] ?? "").split(" ")[0],
  };
  const path = `${SOCKETS}/${userInfo().username}.sock`;
  const until = performance.now() + WAIT_MS;
  let again = false;
  for (;;) {
    const outcome = await ask(path, { ...header, again });
    if (typeof outcome === "object") return print(outcome);
    // an agent that died over the verb may have done it: the next one shall not call that wrong
    again ||= outcome === "unanswered";
    // bytes of stdin that were sent cannot be sent again
    if (outcome === "cut") return refuse("The agent went away; nothing is known of the outcome");
    if (performance.now() > until) return refuse("The agent is away");
    await pause(RETRY_MS);
  }
}

/** "away": nobody is there; "unanswered": it heard and went away; "cut": with our stdin. */
function ask(path: string, header: object): Promise<Answer | "away" | "unanswered" | "cut"> {
  return new Promise((resolve) => {
    const socket = connect(path);
    let received = "";
    let sending = false;
    let heard = false;
    const gone = (): void => resolve(sending ? "cut" : heard ? "unanswered" : "away");
    socket.setEncoding("utf8");
    socket.once("connect", () => {
      heard = true;
      socket.write(`${JSON.stringify(header)}\n`);
    });
    socket.once("error", gone);
    socket.once("close", gone);
    socket.on("data", (text: string) => {
      received += text;
      for (let end = received.indexOf("\n"); end >= 0; end = received.indexOf("\n")) {
        const line = JSON.parse(received.slice(0, end)) as Answer | { want: "stdin" };
        received = received.slice(end + 1);
        if ("want" in line) {
          sending = true;
          sendStdin(socket);
        } else resolve(line);
      }
    });
  });
}

function sendStdin(socket: Socket): void {
  process.stdin.on("error", () => socket.destroy());
  process.stdin.pipe(socket);
}

async function print(answer: Answer): Promise<number> {
  await new Promise((done) => process.stdout.write(answer.stdout, done));
  await new Promise((done) => process.stderr.write(answer.stderr, done));
  return answer.exitCode;
}

function refuse(line: string): Promise<number> {
  return print({ stdout: "", stderr: `${line}\n`, exitCode: 1 });
}

process.exit(await main());
