/**
 * `rackyard events`: what is now, by topic, and with `-f` each change from then on. A connection
 * that breaks is taken up again after the last event seen.
 */
import type { StreamedEvent } from "../api/client.ts";
import { isRackyardError } from "../base/errors.ts";
import { isUuid, shortId } from "../base/ids.ts";
import { limits } from "../base/limits.ts";
import { backoffMs } from "../base/retry.ts";
import { pause } from "../base/wait.ts";
import { flagOption, textOption } from "./arguments.ts";
import type { CliContext } from "./context.ts";
import { timeText } from "./output.ts";
import type { Input } from "./program.ts";

export async function showEvents(context: CliContext, { options }: Input): Promise<void> {
  const { client, out, signal } = context;
  const topics = textOption(options, "topic")?.split(",").filter(Boolean) ?? [];
  const api = await client();
  let lastId: number | undefined;
  let failures = 0;
  for (;;) {
    try {
      const more = {
        signal,
        state: lastId === undefined,
        ...(lastId === undefined ? {} : { lastId }),
      };
      for await (const event of api.events(topics, more)) {
        failures = 0;
        if ("state" in event) {
          lastId = event.id;
          out.record({ event: "state", ...event }, () => stateText(event.state));
          if (!flagOption(options, "follow")) return;
          continue;
        }
        lastId = event.id;
        if ("resync" in event) {
          out.record({ event: "resync", id: event.id }, () => "events are missing here");
          continue;
        }
        out.record(event, () => {
          const { from, to } = event.body as { from?: string | null; to?: string };
          const step = to === undefined ? "" : `  ${from ? `${from} → ` : ""}${to}`;
          const subject = isUuid(event.subject) ? shortId(event.subject) : event.subject;
          return `${timeText(event.at)}  ${event.topic} ${subject}  ${event.event}${step}`;
        });
      }
    } catch (error) {
      if (!isRackyardError(error, "unavailable") || ++failures >= limits.followTries) throw error;
    }
    await pause(backoffMs(Math.max(1, failures)), signal);
  }
}

type Now = Extract<StreamedEvent, { readonly state: unknown }>["state"];

/** A topic a line, what is about it below. */
function stateText(state: Now): string {
  return Object.entries(state)
    .flatMap(([topic, items]) => [`${topic}: ${items.length}`, ...items.map(lineOf)])
    .join("\n");
}

type Known = {
  readonly id?: string;
  readonly number?: number;
  readonly change?: number | null;
  readonly name?: string;
  readonly job?: string;
  readonly state?: string;
  readonly status?: string;
};

function lineOf(item: object): string {
  const { id, number, change, name, job, state, status } = item as Known;
  const subject = number ?? name ?? (id === undefined ? "" : shortId(id));
  const about = [job, typeof change === "number" ? `change ${change}` : undefined, state ?? status];
  return `  ${[String(subject), ...about].filter((part) => part !== undefined).join("  ")}`;
}
