/**
 * `rackyard token …`, `rackyard reload` and `rackyard events`: the system's own commands, through
 * the API.
 */
import { fail } from "../base/errors.ts";
import { isUuid } from "../base/ids.ts";
import { roles } from "../model/roles.ts";
import { secondsOf, textOption, wholeId } from "./arguments.ts";
import { agoText } from "./output.ts";
import type { Program, Verb } from "./program.ts";

export function addAdminCommands(program: Program): void {
  program.noun("token", "Tokens of people and programs; a token's name is the user's");
  program.add("token create", tokenCreate);
  program.add("token list", tokenList);
  program.add("token revoke", tokenRevoke);
  program.add("reload", reload);
  program.add("events", eventsVerb);
}

const tokenCreate: Verb = {
  summary: "Make a token; it is shown this once",
  example: "rackyard token create dora --role developer --expires 90d",
  args: "<name>",
  options: [
    ["--role <role>", `${roles.join(", ")}; each may what the former may`, "developer"],
    ["--group <names>", "groups it may lease for, comma between; default: all"],
    ["--expires <time>", "how long it works: 12h, 90d; default: until revoked"],
  ],
  async run({ client, out }, { args, options }) {
    const expires = textOption(options, "expires");
    const groups = textOption(options, "group")?.split(",").filter(Boolean);
    const api = await client();
    const made = await api.tokens.create({
      name: args[0] ?? "",
      role: textOption(options, "role") ?? "developer",
      ...(groups ? { groups } : {}),
      ...(expires === undefined ? {} : { expiresInSeconds: secondsOf(expires, "--expires") }),
    });
    out.result(made, () => made.token);
    out.talk(`${made.name} is ${made.role} by this token; it is not shown again`);
  },
};

const tokenList: Verb = {
  summary: "All tokens, without their secrets",
  example: "rackyard token list",
  async run({ client, out }) {
    const items = await (await client()).tokens.list();
    out.result({ items, next: null }, () =>
      out.table(
        ["token", "name", "role", "groups", "made", "expires"],
        items.map((token) => [
          token.id.slice(0, 8),
          token.name,
          token.role,
          token.groups.join(",") || "all",
          agoText(token.createdAt, Date.now()),
          token.expiresAt === null ? "never" : agoText(token.expiresAt, Date.now()),
        ]),
      ),
    );
  },
};

const tokenRevoke: Verb = {
  summary: "Revoke a token, by its id or its name",
  example: "rackyard token revoke dora",
  args: "<token>",
  async run({ client, out }, { args }) {
    const api = await client();
    const given = args[0] ?? "";
    const all = await api.tokens.list();
    const named = all.filter((token) => token.name === given);
    if (named.length > 1 && !isUuid(given)) {
      fail("usage", `${named.length} tokens have the name ${given}: give the id of one`);
    }
    if (named.length === 0 && !/^[0-9a-f-]{4,36}$/i.test(given)) {
      fail("not-found", `there is no token ${given}`, { remedy: "see rackyard token list" });
    }
    const id = named[0]?.id ?? (await wholeId(given, "token", () => Promise.resolve(all)));
    await api.tokens.revoke(id);
    out.result({ revoked: id }, () => `token ${id.slice(0, 8)} works no more`);
  },
};

const eventsVerb: Verb = {
  summary: "What is under way now; -f follows what happens",
  example: "rackyard events -f --topic build,lease",
  options: [
    ["-f, --follow", "go on: a line an event"],
    ["--topic <names>", "change, item, build, lease, testenv, host, node; comma between"],
  ],
  async run(context, input) {
    const { showEvents } = await import("./events.ts");
    return showEvents(context, input);
  },
};

const reload: Verb = {
  summary: "Have configuration and layout read again; faulty ones are refused",
  example: "rackyard reload",
  async run({ client, out }) {
    const now = await (await client()).reload();
    out.result(
      now,
      () => `layout ${now.layout}: ${now.projects} projects, ${now.jobs} jobs are in force`,
    );
  },
};
