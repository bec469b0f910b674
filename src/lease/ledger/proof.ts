/**
 * What a reset certificate makes of a TE: the one way to `ready` (L5). The signature was checked
 * before it came here (`proof`); a certificate that does not hold is an alarm and a faulty TE.
 */
import { alarm, moveTestenv } from "./draft.ts";
import type { Draft } from "./draft.ts";
import type { Proof } from "./ledger-event.ts";
import type { TestenvRecord } from "./ledger-state.ts";

/** L5: only a certificate of the present epoch, signed by its host, makes a TE ready. */
export function acceptProof(
  draft: Draft,
  id: string,
  epoch: number,
  certificate: TestenvRecord["certificate"],
  proof: Proof,
): void {
  if (proof.kind === "bad" || certificate === null) {
    const why = proof.kind === "bad" ? proof.why : "none was sent";
    alarm(draft, id, `certificate refused: ${why}`);
    moveTestenv(draft, id, { kind: "failed", detail: `certificate refused: ${why}` });
    return;
  }
  const te = draft.testenvs.get(id);
  if (!te) return;
  const known = te.certificate?.signature === certificate.signature;
  const changes = { epoch: Math.max(te.epoch, epoch), hostEpoch: epoch, certificate };
  moveTestenv(draft, id, { kind: "proved" }, changes);
  if (known) return;
  draft.effects.push({ kind: "certified", te: id, lease: certificate.lease, certificate });
}
