/**
 * WebSockets as wires (RFC 6455): the one place of this folder that knows them, but for the upgrade
 * itself (host-sessions.ts). Frames are bounded and not compressed; what they say is channel.ts'.
 */
import { WebSocket } from "ws";
import { limits } from "../base/limits.ts";
import type { Connect, Wire } from "./wire-port.ts";

export const webSocketOptions = {
  maxPayload: limits.sessionFrameBytes,
  perMessageDeflate: false,
} as const;

export function wireOf(socket: WebSocket): Wire {
  return {
    get open() {
      return socket.readyState === WebSocket.OPEN;
    },
    get paused() {
      return socket.isPaused;
    },
    send: (text) => socket.send(text),
    ping: () => socket.ping(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: (code, reason) => socket.close(code, reason),
    cut: () => socket.terminate(),
    listen(listener) {
      socket.on("message", (data: Buffer, binary) =>
        listener.frame(binary ? undefined : data.toString("utf8")),
      );
      socket.on("ping", () => listener.ping());
      socket.on("pong", () => listener.pong());
      socket.on("error", (error) => listener.failed(error));
      socket.on("close", (code, reason) =>
        listener.closed(reason.toString() || `closed (${code})`),
      );
    },
  };
}

export const connectWebSocket: Connect = (url, on) => {
  const socket = new WebSocket(url, {
    ...webSocketOptions,
    handshakeTimeout: limits.sessionConnectMs,
  });
  let opened = false;
  socket.once("open", () => {
    opened = true;
    on.opened(wireOf(socket));
  });
  socket.once("error", (error) => {
    if (!opened) on.failed(error);
  });
  return {
    abandon() {
      if (socket.readyState !== WebSocket.CONNECTING) return;
      socket.on("error", () => undefined); // dialling was cut short
      socket.terminate();
    },
  };
};
