/**
 * `rackyard completion bash|zsh`: a script that a shell reads once. It is made of the command
 * table, asks no server, and completes words and options only: no ids, and no value of a token.
 */
import { fail } from "../base/errors.ts";
import type { CommandWords, OptionWords, Program, Verb } from "./program.ts";

export function addCompletionCommand(program: Program): void {
  program.add("completion", completionVerb(program));
}

function completionVerb(program: Program): Verb {
  return {
    summary: "Completion of commands and options for bash or zsh",
    example:
      'source <(rackyard completion bash)\nrackyard completion zsh > "${fpath[1]}/_rackyard"',
    args: "<shell>",
    run({ out }, { args: [shell] }) {
      const script = shell === "bash" ? bashScript : shell === "zsh" ? zshScript : undefined;
      if (!script) {
        fail("usage", `no completion is made for ${shell}`, { remedy: "bash or zsh" });
      }
      const text = script(program.table());
      out.result({ shell, script: text }, () => text.trimEnd());
      return Promise.resolve();
    },
  };
}

/** Words after `change`, options of `change list`; what stands before is found word by word. */
export function bashScript(table: readonly CommandWords[]): string {
  return `# completion of rackyard for bash: source <(rackyard completion bash)
_rackyard() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} at="" verbs="" options=""
  local i word skip=""
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == -- ]]; then return 0; fi
    if [[ -n $skip ]]; then skip=""; continue; fi
    case $word in
      ${valueFlags(table).join(" | ")}) skip=1 ;;
      -*) ;;
      *) case "$at $word" in
${commandCases(table, "          ")}
        esac ;;
    esac
  done
  case $prev in
    ${fileFlags(table).join(" | ")}) COMPREPLY=($(compgen -f -- "$cur")); return 0 ;;
    ${otherFlags(table).join(" | ")}) return 0 ;;
  esac
  case $at in
${wordCases(table)}
  esac
  if [[ $cur == -* ]]; then verbs=$options; fi
  COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
}
complete -o filenames -F _rackyard rackyard
`;
}

export function zshScript(table: readonly CommandWords[]): string {
  return `#compdef rackyard
_rackyard() {
  local cur=\${words[CURRENT]} prev=\${words[CURRENT - 1]} at="" verbs="" options=""
  local i word skip=""
  for ((i = 2; i < CURRENT; i++)); do
    word=\${words[i]}
    if [[ $word == -- ]]; then _files; return; fi
    if [[ -n $skip ]]; then skip=""; continue; fi
    case $word in
      ${valueFlags(table).join(" | ")}) skip=1 ;;
      -*) ;;
      *) case "$at $word" in
${commandCases(table, "          ")}
        esac ;;
    esac
  done
  case $prev in
    ${fileFlags(table).join(" | ")}) _files; return ;;
    ${otherFlags(table).join(" | ")}) return ;;
  esac
  case $at in
${wordCases(table)}
  esac
  if [[ $cur == -* ]]; then compadd -- \${=options}; else compadd -- \${=verbs}; fi
}
if [[ \${funcstack[1]} == _rackyard ]]; then _rackyard "$@"; else compdef _rackyard rackyard; fi
`;
}

/** Every known command leads on; any other word is an argument and stays where it is. */
function commandCases(table: readonly CommandWords[], indent: string): string {
  const known = table.filter(({ words }) => words !== "");
  return `${indent}${known.map(({ words }) => `" ${words}"`).join(" | ")}) at="$at $word" ;;`;
}

function wordCases(table: readonly CommandWords[]): string {
  const globals = table.find(({ words }) => words === "")?.options ?? [];
  return table
    .map(({ words, verbs, options }) => {
      const flags = [...new Set([...options, ...(words === "" ? [] : globals)].map(flagOf))];
      const next = words === "" ? [...verbs, "help"] : verbs;
      const at = words === "" ? '""' : `" ${words}"`;
      return `    ${at}) verbs="${next.join(" ")}"; options="${flags.join(" ")} --help" ;;`;
    })
    .join("\n");
}

const flagOf = ({ flag }: OptionWords): string => flag;

function valueFlags(table: readonly CommandWords[]): string[] {
  const all = table.flatMap(({ options }) => options);
  return [...new Set(all.filter(({ value }) => value !== undefined).map(flagOf))];
}

function fileFlags(table: readonly CommandWords[]): string[] {
  const files = table
    .flatMap(({ options }) => options)
    .filter(({ value }) => value === "file" || value === "directory");
  return [...new Set(files.map(flagOf))];
}

function otherFlags(table: readonly CommandWords[]): string[] {
  const files = new Set(fileFlags(table));
  return valueFlags(table).filter((flag) => !files.has(flag));
}
