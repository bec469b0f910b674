/**
 * What hosts and broker tell of a rack, as moments of the time line of the build that has it
 * (surface.md §8 names the steps). Which of their words people want to read there. Pure.
 */
import type { Mark } from "../../ci/builds/record.ts";
import type { HostEvent } from "../../model/session.ts";
import type { Certificate } from "../../model/testenv.ts";

/** Words of the flight recorder that stand in a build's time line. */
const steps = new Set(["seed-up", "machine-up", "interruption", "console-phase"]);

/** A host's line, or undefined where the time line does not show it. */
export function markOfHostEvent(event: HostEvent): Mark | undefined {
  if (!steps.has(event.what)) return undefined;
  const detail = event.interruption?.text ?? event.detail;
  return {
    step: event.what,
    atMs: Date.parse(event.at),
    ...(event.machine === null ? {} : { machine: event.machine }),
    ...(detail === "" ? {} : { detail }),
  };
}

export function markOfCertificate(certificate: Certificate): Mark {
  return {
    step: "reset",
    atMs: Date.parse(certificate.ended),
    detail: `proved in ${(certificate.durationMs / 1_000).toFixed(1)} s`,
  };
}

export function isHostEvent(body: object): body is HostEvent {
  return "what" in body && "at" in body && "detail" in body && "interruption" in body;
}

export function isCertificate(body: object): body is Certificate {
  return "schema" in body && body.schema === "reset/1";
}
