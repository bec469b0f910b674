/**
 * Answers what came through the gate: checks that the lease is the present one (L3), reads the
 * verb, acts on this lease's machines alone, and records who asked what and what came of it
 * (H-6.9). Nothing of a command is ever run; `copyseed` reads its image from the ssh client.
 */
import { describeError, isRackyardError } from "../../base/errors.ts";
import type { Domains, Disks } from "../../hypervisor/hypervisor-port.ts";
import type { ImageStore } from "../../image/content-store.ts";
import type { GateRequest } from "./rack-sockets.ts";
import type { Testenv } from "../testenv-state.ts";
import type { TestenvParts } from "../parts.ts";
import type { Power } from "../power.ts";
import type { Registry } from "../registry.ts";
import {
  answered,
  notYours,
  printList,
  printMacs,
  printPower,
  readVerb,
  refused,
  unknownCommand,
} from "./verb-codec.ts";
import type { GateAnswer, Verb } from "./verb-codec.ts";

export type VerbTools = {
  readonly power: Power;
  readonly domains: Domains;
  readonly disks: Disks;
  readonly images: ImageStore;
  readonly maxVirtualGiB: number;
  readonly registry: Pick<Registry, "find" | "post" | "watched">;
  /** A verb was carried out or refused: the broker wants to know at once. */
  readonly told: (number: number, command: string, answer: GateAnswer) => void;
  readonly monoMs: () => number;
};

export function openVerbs(tools: VerbTools): (request: GateRequest) => Promise<GateAnswer> {
  /** TEs whose `copyseed` runs: one at a time (H-6.7). */
  const copying = new Set<number>();

  async function answer(request: GateRequest): Promise<GateAnswer> {
    const found = tools.registry.find(request.number);
    if (!found || !isPresent(found.te, request)) return refused("error: the lease is over");
    const began = tools.monoMs();
    const domains = found.parts.all.map(({ spec }) => spec.name);
    const read = readVerb(request.command, { number: request.number, domains });
    const done =
      read.kind === "unknown"
        ? unknownCommand
        : read.kind === "not-yours"
          ? notYours(read.name)
          : await carryOut(found.parts, read.verb, request).catch(sayWhy);
    const command = request.command.slice(0, 200);
    tools.registry.watched(found.te).record?.write("verb", {
      from: request.from,
      command,
      exitCode: done.exitCode,
      ...(done.exitCode === 0 ? {} : { said: done.stderr.trim() }),
      bytes: request.bytesRead(),
      ms: Math.round(tools.monoMs() - began),
    });
    tools.told(request.number, command, done);
    return done;
  }

  async function carryOut(
    parts: TestenvParts,
    verb: Verb,
    request: GateRequest,
  ): Promise<GateAnswer> {
    switch (verb.kind) {
      case "power": {
        const machine = parts.all.find(({ spec }) => spec.name === verb.domain)!;
        const outcome = await tools.power.act(parts, machine, verb.verb, request.signal);
        return printPower(verb.verb, verb.domain, request.again ? "done" : outcome);
      }
      case "list":
      case "list-column": {
        const on = await tools.power.running(parts);
        const all = parts.all.map(({ spec }) => ({ name: spec.name, running: on.has(spec.name) }));
        return printList(verb, all);
      }
      case "macs": {
        const machine = parts.all.find(({ spec }) => spec.name === verb.domain)!;
        return printMacs(machine.spec.nics.map((nic) => nic.mac));
      }
      case "copyseed": {
        if (copying.has(parts.number)) return refused("error: another copyseed is running");
        copying.add(parts.number);
        try {
          return await copySeed(parts, request);
        } finally {
          copying.delete(parts.number);
        }
      }
      default:
        return unknownCommand;
    }
  }

  async function copySeed(parts: TestenvParts, request: GateRequest): Promise<GateAnswer> {
    const { seed } = parts;
    const refuseRunning = async (): Promise<GateAnswer | undefined> =>
      (await tools.power.running(parts)).has(seed.spec.name)
        ? refused(`error: ${seed.spec.name} is running: destroy it first`)
        : undefined;
    const early = await refuseRunning();
    if (early) return early;
    const maxVirtualBytes = Math.min(seed.disk.sizeBytes, tools.maxVirtualGiB * 1024 ** 3);
    const { signal } = request;
    const image = await tools.images.receive(request.stdin(), {
      maxBytes: maxVirtualBytes + 64 * 1024 ** 2,
      maxVirtualBytes,
      signal,
    });
    signal.throwIfAborted();
    const late = await refuseRunning();
    if (late) return late;
    await tools.registry.post(parts.number, {
      kind: "seed-image",
      epoch: request.epoch,
      digest: image.digest,
    });
    const path = tools.images.pathOf(image.digest);
    await tools.disks.createOverlay({ ...seed.disk, base: { path, format: image.format } });
    signal.throwIfAborted();
    return answered(`${image.digest} ${image.format} ${image.sizeBytes} bytes\n`);
  }

  return answer;
}

function isPresent(te: Testenv, request: GateRequest): boolean {
  return (
    te.phase.state === "leased" &&
    te.phase.terms.lease === request.lease &&
    te.phase.terms.epoch === request.epoch
  );
}

/** The world's refusals in one line; what is our own mistake is told without its inside. */
function sayWhy(error: unknown): GateAnswer {
  if (isRackyardError(error)) return refused(`error: ${error.code}: ${error.message}`);
  return refused(`error: ${describeError(error)}`);
}
