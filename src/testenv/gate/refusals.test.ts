/** F-1: refused logins become an interruption of the lease that they were refused to. */
import { expect, test } from "vitest";
import { silentLog } from "../../base/log.ts";
import { fingerprint } from "../../ssh/key-codec.ts";
import { newTestenv } from "../testenv-state.ts";
import type { Testenv } from "../testenv-state.ts";
import { openRefusals } from "./refusals.ts";

const publicKey = "ssh-rsa AAAAB3NzaC1yc2E=";
const failed = `Failed publickey for te1 from 10.99.0.180 port 5 ssh2: RSA ${fingerprint(publicKey)}`;

function leased(epoch: number): Testenv {
  const terms = {
    lease: "00000000-0000-4000-8000-000000000001",
    epoch,
    durationMs: 1,
    holderName: "build",
    holderAddresses: ["10.99.0.180"],
    tokenHash: "",
    compat: null,
  };
  const deadline = { bootId: "w", monoMs: 1, at: "2026-01-01T00:00:00.000Z" };
  return { ...newTestenv(1, "two"), epoch, phase: { state: "leased", terms, deadline } };
}

function world(first: Testenv) {
  const faults: string[] = [];
  const state = { te: first, beforeKey: (): void => undefined };
  const refusals = openRefusals({
    find: (account) => (account === "te1" ? state.te : undefined),
    publicKey() {
      state.beforeKey();
      return Promise.resolve(publicKey);
    },
    onFault: (_te, why) => faults.push(why),
    log: silentLog,
  });
  return { state, faults, refusals };
}

test("F-1 a live key that is refused is told once a lease, and again of the next one", async () => {
  const { state, faults, refusals } = world(leased(7));
  await refusals.onLine(failed);
  await refusals.onLine(failed);
  await refusals.onLine("Invalid user te1 from 10.99.0.180 port 5");
  expect(faults).toHaveLength(1);
  state.te = leased(8);
  await refusals.onLine(failed);
  expect(faults).toHaveLength(2);
});

test("refusals of nobody's rack, of another one, and of a lease that is just ending are none", async () => {
  const { state, faults, refusals } = world(newTestenv(1, "two"));
  await refusals.onLine(failed);
  state.te = leased(7);
  await refusals.onLine(failed.replace("te1", "te2"));
  state.beforeKey = () => void (state.te = newTestenv(1, "two"));
  await refusals.onLine(failed);
  expect(faults).toEqual([]);
});
