/**
 * The broker's end of the sessions with all hosts (lease.md §6): takes upgrades, checks who says
 * hello, passes messages on one by one. An older session of a host is refused, and so is a host
 * that is there already. What is said to hosts lasts as long as their session; after that the
 * reconciliation at the next hello makes up for it. Silence is judged by the ledger.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { toBrokerSchema, toHostSchema } from "../model/session.ts";
import type { Hello, ToHost } from "../model/session.ts";
import { closeCodes, openChannel, refuse } from "./channel.ts";
import type { Channel } from "./channel.ts";
import { webSocketOptions, wireOf } from "./web-socket.ts";
import type { Wire } from "./wire-port.ts";
import type { HostSessions, HostSessionsHandler } from "./session-port.ts";

export type HostSessionsOptions = {
  readonly handler: HostSessionsHandler;
  readonly log: Log;
  readonly clock: Clock;
  /** Whether whoever dials may be a host; false is answered 403. */
  readonly authorise: (request: IncomingMessage) => boolean;
};

type Session = { readonly hostId: string; readonly number: number; readonly channel: Channel };

export function openHostSessions(options: HostSessionsOptions): HostSessions {
  const { handler, log, clock } = options;
  const server = new WebSocketServer({
    noServer: true,
    ...webSocketOptions,
  });
  const sessions = new Map<string, Session>();
  const highest = new Map<string, number>();
  /** Sessions whose hello is being answered: one at a time for each host. */
  const greeting = new Set<string>();
  let closing = false;

  function checkNumber({ hostId, name, sessionNumber }: Hello): void {
    if (sessionNumber > (highest.get(hostId) ?? 0)) return;
    fail("not-allowed", `session ${sessionNumber} of host ${name} is not newer than one we had`);
  }

  /** One host, one session: an old one that is still alive keeps the new one out. */
  async function admit(hello: Hello): Promise<void> {
    const { hostId, sessionNumber } = hello;
    const present = sessions.get(hostId);
    if (present?.channel.open) {
      if (await present.channel.probe(limits.sessionProbeMs)) {
        fail("not-allowed", `host ${hello.name} (${hostId}) is connected already`);
      }
      present.channel.close(closeCodes.failed, "taken over by a newer session");
    }
    highest.set(hostId, sessionNumber);
  }

  function receive(wire: Wire): void {
    let session: Session | undefined;
    const channel = openChannel(
      wire,
      {
        async receive(raw) {
          const parsed = toBrokerSchema.safeParse(raw);
          if (!parsed.success) {
            const why = `not understood: ${faultsOf(parsed.error)}`;
            // Without a hello that we understand there is nobody to go on with.
            if (session) refuse(why);
            fail("not-allowed", why);
          }
          const message = parsed.data;
          if (message.kind === "hello") {
            if (session) fail("not-allowed", "a second hello in one session");
            session = await greet(message);
          } else if (session) await handler.onMessage(session.hostId, message);
          else fail("not-allowed", `${message.kind} before hello`);
        },
        acknowledged: () => undefined,
        refused(seq, why) {
          log.error({ host: session?.hostId, seq, why }, "a host does not take a message");
        },
        closed(reason) {
          impatience.cancel();
          if (!session || sessions.get(session.hostId) !== session) return;
          sessions.delete(session.hostId);
          log.info({ host: session.hostId, reason }, "host session ended");
          handler.onDisconnected(session.hostId);
        },
      },
      { clock, log },
    );
    const impatience = clock.after(limits.sessionConnectMs, () => {
      if (!session) channel.close(closeCodes.refused, "no hello");
    });

    async function greet(hello: Hello): Promise<Session> {
      const { hostId, sessionNumber } = hello;
      checkNumber(hello);
      if (greeting.has(hostId)) fail("not-allowed", `host ${hello.name} says hello twice at once`);
      greeting.add(hostId);
      try {
        await admit(hello);
        const made = { hostId, number: sessionNumber, channel };
        const welcome = await handler.onHello(hello);
        if (!channel.open || closing) fail("unavailable", "closed while it was greeted");
        sessions.set(hostId, made);
        channel.send(welcome);
        log.info({ host: hostId, name: hello.name, session: sessionNumber }, "host session began");
        handler.onConnected(hostId);
        return made;
      } finally {
        greeting.delete(hostId);
      }
    }
  }

  return {
    accept(request, socket, head) {
      if (closing || !options.authorise(request)) {
        return refuseUpgrade(socket, closing ? "503 Service Unavailable" : "403 Forbidden");
      }
      server.handleUpgrade(request, socket, head, (accepted) => receive(wireOf(accepted)));
    },
    take: receive,
    send(hostId, message: ToHost) {
      const check = toHostSchema.safeParse(message);
      assert(check.success, `${message.kind} to a host is malformed`);
      const channel = sessions.get(hostId)?.channel;
      if (!channel?.open) return false;
      channel.send(message);
      return true;
    },
    connected: (hostId) => sessions.get(hostId)?.channel.open ?? false,
    drop(hostId, reason) {
      sessions.get(hostId)?.channel.close(closeCodes.failed, reason);
    },
    async [Symbol.asyncDispose]() {
      closing = true;
      for (const { channel } of sessions.values()) channel.close(closeCodes.normal, "stopping");
      for (const socket of server.clients) socket.terminate();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function refuseUpgrade(socket: Duplex, status: string): void {
  socket.on("error", () => undefined);
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

/** The first faults, without the values. */
export function faultsOf(error: {
  readonly issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[];
}): string {
  return error.issues
    .slice(0, 3)
    .map((issue) => `${issue.path.map(String).join(".") || "message"}: ${issue.message}`)
    .join("; ");
}
