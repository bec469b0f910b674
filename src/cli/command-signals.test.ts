import { afterEach, expect, test } from "vitest";
import { launch, plainEnv } from "../base/command.ts";
import type { Child } from "../base/command.ts";
import { until } from "../base/wait.ts";

const running: Child[] = [];
afterEach(async () => {
  for (const child of running.splice(0)) await child.end();
});

const soon = { timeoutMs: 20_000, everyMs: 20 };
const here = import.meta.dirname;

/** A program that does as `lease -- bash` does, on a terminal of its own. */
function terminal(args: readonly string[]) {
  const program = `
    import { launch } from "${here}/../base/command.ts";
    import { takeSignals } from "${here}/command-signals.ts";
    const signals = takeSignals();
    const args = ${JSON.stringify(args)};
    const how = { env: process.env, stdio: "inherit", foreground: true };
    const child = launch("bash", args, how);
    signals.passTo(child, true);
    const { code } = await child.exited;
    signals.giveBack();
    process.exitCode = code ?? 99;
  `;
  const env = plainEnv({ PROGRAM: program, PS1: "ready> ", TERM: "dumb" });
  // Below a shell, as people start it: the kernel lets no key stop a group that has no parent.
  const node = `${process.execPath} --input-type=module -e "$PROGRAM"`;
  const words = `bash --norc --noprofile -ic '${node}; exit $?'`;
  const child = launch("script", ["-qec", words, "/dev/null"], {
    env,
    stdio: ["pipe", "pipe", "pipe"],
  });
  running.push(child);
  let text = "";
  child.stdout!.on("data", (data: Buffer) => (text += data.toString()));
  return {
    child,
    text: () => text,
    type: (keys: string) => void child.stdin!.write(keys),
    shows: (wanted: string | RegExp) =>
      until(() => Promise.resolve(text.search(wanted) >= 0), {
        ...soon,
        what: `the terminal to show ${wanted}: ${text}`,
      }),
  };
}

test("issue 6, §10: a shell in the foreground reads the terminal and has job control", async () => {
  const { child, text, type, shows } = terminal(["--norc", "--noprofile", "-i"]);
  await shows("ready> ");
  type("sleep 301 & jobs -l; echo $((40 + 2)) jobs\n");
  await shows(/^42 jobs/m);
  expect(text()).toMatch(/Running +sleep 301/);
  expect(text()).not.toMatch(/no job control|cannot set terminal process group/);
  // the keys go to the shell's job, and neither the shell nor the program above it ends
  type("echo $((50 + 1)) begins; sleep 302\n");
  await shows(/^51 begins/m);
  await until(hasSlept, { ...soon, what: "sleep 302 to run" });
  type("\u001a");
  await shows(/Stopped +sleep 302/);
  type("fg\n");
  await shows(/fg\r?\nsleep 302|fg[^]*sleep 302/);
  type("\u0003");
  type("echo $((60 + 1)) after\n");
  await shows(/^(?:ready> )?61 after/m);
  type("kill %1; exit 7\n");
  expect(await child.exited).toMatchObject({ code: 7 });
}, 40_000);

test("issue 6, §10: a program that a key stops goes on, since a lease cannot stop", async () => {
  const { child, type, shows } = terminal(["-c", "echo $((80 + 1)) runs; read x; echo got-$x"]);
  await shows(/81 runs/);
  type("\u001a");
  type("word\n");
  await shows(/got-word/);
  expect(await child.exited).toMatchObject({ code: 0 });
}, 40_000);

/** The shell writes before it has made its job the foreground: the job itself must run. */
async function hasSlept(): Promise<boolean> {
  const ps = launch("ps", ["-eo", "stat,args"], {});
  let text = "";
  ps.stdout!.on("data", (data: Buffer) => (text += data.toString()));
  await ps.exited;
  return /^S\S*\+ +sleep 302$/m.test(text);
}
