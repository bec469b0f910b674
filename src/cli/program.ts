/**
 * The frame of the command line: commands are data (words, summary, example, options, function),
 * and only this file knows the library that parses them. Usage faults are exit 64; help has an
 * example everywhere; what follows `--` is handed over untouched.
 */
import { Command, CommanderError } from "commander";
import type { Option } from "commander";
import { fail } from "../base/errors.ts";
import { contextOf, globalsOf } from "./context.ts";
import type { CliContext } from "./context.ts";
import type { Streams } from "./output.ts";

export type Input = {
  /** Positional arguments, as `args` of the verb names them. */
  readonly args: readonly string[];
  /** By camelCase name. */
  readonly options: Readonly<Record<string, unknown>>;
  /** What stood after `--`. */
  readonly rest: readonly string[];
};

export type Verb = {
  readonly summary: string;
  /** Whole lines, as typed: `rackyard change list --status NEW`. */
  readonly example: string;
  /** Commander's form: `<number>`, `[file]`, `<names...>`. */
  readonly args?: string;
  /** `["--wait <time>", "how long to wait", default?]` */
  readonly options?: readonly (readonly [string, string, (string | boolean)?])[];
  /** Takes a command after `--`; shown in the usage line. */
  readonly takesCommand?: boolean;
  /** Gives the exit code; nothing is 0. */
  readonly run: (context: CliContext, input: Input) => Promise<number | void>;
};

export type Program = {
  /** Adds a command by its words: `status`, `change list`. */
  add(words: string, verb: Verb): void;
  /** Says what a noun is about, for `help`. */
  noun(name: string, summary: string): void;
  /** All commands with their options, those of the program itself included. */
  table(): readonly CommandWords[];
  /** Parses and runs; gives the exit code. Errors come out as they are. */
  run(argv: readonly string[], surroundings: Surroundings): Promise<number>;
};

/** A command as completion knows it. */
export type CommandWords = {
  /** `change list`; "" is the program itself. */
  readonly words: string;
  /** The next words: verbs of a noun. */
  readonly verbs: readonly string[];
  readonly options: readonly OptionWords[];
};
export type OptionWords = { readonly flag: string; readonly value: string | undefined };

export type Surroundings = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly streams: Streams;
};

type Act = (surroundings: Surroundings, rest: readonly string[]) => Promise<number>;

export function openProgram(version: string): Program {
  const root = new Command("rackyard");
  const examples = new Map<Command, string[]>();
  let chosen: Act = () => Promise.resolve(0);
  setUp(root, version);

  const find = (parent: Command, word: string): Command => {
    const there = parent.commands.find((command) => command.name() === word);
    if (there) return there;
    const made = parent.command(word);
    made.helpCommand(false).exitOverride();
    return made;
  };

  return {
    add(words, verb) {
      const command = words.split(" ").reduce(find, root);
      command.summary(verb.summary).description(sentence(verb.summary));
      if (verb.args !== undefined) command.arguments(verb.args);
      for (const [flags, text, standard] of verb.options ?? []) {
        command.option(flags, text, standard);
      }
      if (verb.takesCommand) command.usage("[options] -- COMMAND [ARGUMENT…]");
      const lines = verb.example.split("\n");
      command.addHelpText("after", ["\nExample:", ...lines.map(indented)].join("\n"));
      if (command.parent) examples.get(command.parent)?.push(lines[0]!);
      command.allowExcessArguments(false);
      command.action(() => {
        chosen = async (surroundings, rest) => {
          if (rest.length > 0 && !verb.takesCommand) {
            fail("usage", `${words} takes no command after --`);
          }
          const globals = globalsOf(command.optsWithGlobals(), surroundings.env);
          const { env, signal, streams } = surroundings;
          const context = contextOf(globals, env, signal, streams);
          const input = { args: command.args, options: command.opts(), rest };
          return (await verb.run(context, input)) ?? 0;
        };
      });
    },
    noun(name, summary) {
      const command = find(root, name).summary(summary).description(sentence(summary));
      const lines: string[] = [];
      examples.set(command, lines);
      command.addHelpText("after", () => ["\nExamples:", ...lines.map(indented)].join("\n"));
    },
    table: () => wordsOf(root, ""),
    async run(argv, surroundings) {
      const { streams } = surroundings;
      configureOutput(root, streams);
      const cut = argv.indexOf("--");
      const words = cut < 0 ? argv : argv.slice(0, cut);
      chosen = () => Promise.resolve(0);
      try {
        await root.parseAsync(helpFirst(words, root), { from: "user" });
      } catch (error) {
        return usageExit(error);
      }
      return chosen(surroundings, cut < 0 ? [] : argv.slice(cut + 1));
    },
  };
}

function wordsOf(command: Command, words: string): CommandWords[] {
  const options = command.options.flatMap(({ short, long, flags }) => {
    const value = /[<[](.*?)[>\]]/.exec(flags)?.[1];
    return [short, long].flatMap((flag) => (flag ? [{ flag, value }] : []));
  });
  const verbs = command.commands.map((verb) => verb.name());
  const below = command.commands.flatMap((verb) => wordsOf(verb, `${words} ${verb.name()}`.trim()));
  return [{ words, verbs, options }, ...below];
}

function setUp(root: Command, version: string): void {
  root
    .description("Every change gets its own rack: a CI system for software that boots machines.")
    .option("--json", "one JSON value, or one a line for streams")
    .option("--state <directory>", "state directory (RACKYARD_STATE; /var/lib/rackyard)")
    .option("--url <url>", "the server's address (RACKYARD_URL)")
    .option("--token-file <file>", "file with the token to use (or RACKYARD_TOKEN)")
    .option("--ca <file>", "certificate authority of an https server (RACKYARD_CA)")
    .option("--config <file>", "configuration file, for programs")
    .option("--set <key=value>", "one configuration key, for programs; repeatable", collect)
    .version(`rackyard ${version}`, "--version", "print the version")
    .helpOption("-h, --help", "help, with an example")
    .helpCommand(false)
    .exitOverride()
    .showSuggestionAfterError(true)
    .addHelpText(
      "after",
      "\nExample:\n  rackyard demo          set all up and watch one change go the whole way" +
        "\n  rackyard help change   what can be done with changes",
    );
  root.configureHelp({
    showGlobalOptions: true,
    sortSubcommands: false,
    // what the program itself takes; a noun's own options (lease … -- COMMAND) are not its verbs'
    visibleGlobalOptions: (command) =>
      command.parent ? root.createHelp().visibleOptions(root).filter(isGlobal) : [],
    styleTitle: (text) => text,
    subcommandTerm: (command) => command.name(),
  });
}

const isGlobal = ({ long }: Option): boolean => long !== "--help";

const indented = (line: string): string => (line === "" ? "" : `  ${line}`);

/** With and without `--json` alike: faults of usage go to stderr, help to stdout. */
function configureOutput(command: Command, streams: Streams): void {
  command.configureOutput({
    writeOut: (text) => void streams.stdout.write(text),
    writeErr: (text) => void streams.stderr.write(text),
    outputError: (text, write) => write(usageText(text)),
  });
  for (const child of command.commands) configureOutput(child, streams);
}

/** `error: sentence (usage)`, then what to do. */
function usageText(text: string): string {
  const [first = "", ...rest] = text.trimEnd().split("\n");
  const remedy = rest.length === 0 ? ["see rackyard help"] : rest;
  return [
    `${first} (usage)`,
    ...remedy.map((line) => `  ${line.replace(/^\((.*)\)$/, "$1")}`),
    "",
  ].join("\n");
}

/** `help`, `help change`, `help change list` → the words with `--help`. */
function helpFirst(words: readonly string[], root: Command): string[] {
  const at = words.findIndex((word) => !word.startsWith("-"));
  if (words.length === 0) return ["--help"];
  if (words[at] !== "help") return [...words];
  const about = words.slice(at + 1);
  let command: Command | undefined = root;
  for (const word of about.filter((one) => !one.startsWith("-"))) {
    command = command.commands.find((one) => one.name() === word);
    if (!command) fail("usage", `there is no command ${word}`, { remedy: "see rackyard help" });
  }
  return [...words.slice(0, at), ...about, "--help"];
}

function usageExit(error: unknown): number {
  if (!(error instanceof CommanderError)) throw error;
  const asked = ["commander.helpDisplayed", "commander.version"].includes(error.code);
  return asked ? 0 : 64;
}

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value];
}

const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`);
