/**
 * What happens on a leased rack, as it happens: consoles are followed for marks and phases, the
 * seed's DHCP acknowledgement, power events, daemons and agents that were started again. All of
 * it goes to the time line; what people wait for goes to the broker at once (H-11.2, ci.md F-1).
 */
import { isoTime } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { followLines } from "../../base/file-tail.ts";
import { limits } from "../../base/limits.ts";
import type { DomainEvent } from "../../hypervisor/hypervisor-port.ts";
import type { HostEvent } from "../../model/session.ts";
import { readConsoleLine } from "./console-codec.ts";
import type { ConsoleMark } from "./console-codec.ts";
import { openTerms } from "../testenv-state.ts";
import type { Testenv } from "../testenv-state.ts";
import type { MachinePart, TestenvParts } from "../parts.ts";
import type { LeaseRecord } from "./recorder.ts";

export type Watched = {
  readonly te: Testenv;
  readonly parts: TestenvParts;
  readonly record: LeaseRecord | undefined;
};

export type LeaseWatch = {
  /** Follows the consoles of a rack from here until `end`; may be called twice. */
  begin(watched: Watched): void;
  end(number: number): void;
  onDomainEvent(event: DomainEvent, found: Watched): void;
  onAck(mac: string, found: Watched): void;
  /** Something of the host's that a job may have felt. */
  interrupt(found: Watched, code: string, text: string, machine?: string): void;
  /** A line of the time line that the broker wants too. */
  tell(found: Watched, what: string, detail: string, machine?: string): void;
  /** Has a machine been turned on lately, and not said yet that it is up? (H-17.4) */
  booting(): boolean;
  close(): void;
};

export function openLeaseWatch(clock: Clock, send: (event: HostEvent) => void): LeaseWatch {
  const following = new Map<number, AbortController>();
  /** When machines were turned on that have not said since that they are up. */
  const starting = new Map<string, number>();
  /** Seeds whose address was acknowledged since they were turned on. */
  const seedsUp = new Set<number>();

  function eventOf(found: Watched, what: string, detail: string, machine?: string): HostEvent {
    const terms = openTerms(found.te);
    return {
      kind: "event",
      at: isoTime(clock.wallMs()),
      testenv: found.te.number,
      lease: terms?.lease ?? null,
      epoch: terms ? String(terms.epoch) : null,
      machine: machine ?? null,
      what,
      detail: detail.slice(0, 500),
      interruption: null,
    };
  }

  function tell(found: Watched, what: string, detail: string, machine?: string): void {
    send(eventOf(found, what, detail, machine));
  }

  function seedUp(found: Watched, detail: string): void {
    if (seedsUp.has(found.te.number)) return;
    seedsUp.add(found.te.number);
    tell(found, "seed-up", detail, found.parts.seed.name);
  }

  function mark(found: Watched, machine: MachinePart, told: ConsoleMark): void {
    const { kind, ...facts } = told;
    found.record?.write("mark", { mark: kind, ...facts }, machine.name);
    if (told.kind !== "phase") starting.delete(machine.name);
    if (told.kind === "phase") tell(found, "console-phase", told.phase, machine.name);
    else if (told.kind === "fail") tell(found, "console-fail", told.detail, machine.name);
    else if (machine.index === "seed") seedUp(found, "@rackyard up");
    else tell(found, "machine-up", "@rackyard up", machine.name);
  }

  return {
    tell,
    begin(found) {
      if (following.has(found.te.number)) return;
      const stop = new AbortController();
      following.set(found.te.number, stop);
      for (const machine of found.parts.all) {
        // what an earlier agent has seen stands in the time line already
        let seen = found.record?.count("mark", machine.name) ?? 0;
        let phase = "";
        void followLines(machine.spec.consoleLog, {
          from: 0,
          signal: stop.signal,
          onLine(line) {
            const told = readConsoleLine(line);
            if (!told) return;
            // firmware and boot loader name themselves on many lines
            if (told.kind === "phase" && told.phase === phase) return;
            phase = told.kind === "phase" ? told.phase : "";
            if (seen > 0) seen--;
            else mark(found, machine, told);
          },
        }).catch(() => undefined); // the file went away with its lease
      }
    },
    end(number) {
      following.get(number)?.abort();
      following.delete(number);
      seedsUp.delete(number);
    },
    onDomainEvent(event, found) {
      const machine = found.parts.all.find(({ spec }) => spec.uuid === event.uuid);
      if (!machine) return;
      const { what, detail } = event;
      found.record?.write("power", { what, detail }, machine.name);
      if (what === "started") {
        starting.set(machine.name, clock.monoMs());
        if (machine.index === "seed") seedsUp.delete(found.te.number);
        tell(found, "power-on", detail, machine.name);
      } else if (what !== "guest-reset")
        tell(found, "power-off", `${what} ${detail}`, machine.name);
    },
    onAck(mac, found) {
      if (!found.parts.seed.spec.nics.some((nic) => nic.mac === mac)) return;
      found.record?.write("dhcp", { mac, ip: found.parts.seedIp }, found.parts.seed.name);
      seedUp(found, `DHCP acknowledged ${found.parts.seedIp}`);
    },
    interrupt(found, code, text, machine) {
      if (!openTerms(found.te)) return;
      const at = isoTime(clock.wallMs());
      found.record?.write("interruption", { code, text }, machine);
      const interruption = { at, code, text, ...(machine === undefined ? {} : { machine }) };
      send({ ...eventOf(found, "interruption", text, machine), interruption });
    },
    booting: () => [...starting.values()].some((atMs) => clock.monoMs() - atMs < limits.rackBootMs),
    close() {
      for (const stop of following.values()) stop.abort();
      following.clear();
    },
  };
}
