/**
 * Tokens of leases (surface.md §6): `ryl_` + HMAC-SHA256(server key, lease id), base64url. Never
 * stored, the same whenever they are computed; the host gets the SHA-256. A token stands for one
 * lease alone: on any other it is refused as `stale-epoch`, and nothing moves.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { fail } from "../../base/errors.ts";
import { keyedUuid, sha256Hex } from "../../base/ids.ts";

export type LeaseTokens = {
  of(leaseId: string): string;
  /** SHA-256 of the token, hex. */
  hashOf(leaseId: string): string;
  /** The id of the lease that this caller asks for with this `Idempotency-Key`. */
  idOf(caller: string, idempotencyKey: string): string;
  /** Throws `stale-epoch` or `bad-token` unless it is this lease's. */
  check(leaseId: string, token: string): void;
};

const PREFIX = "ryl_";

export function openLeaseTokens(key: Uint8Array): LeaseTokens {
  const of = (id: string): string =>
    PREFIX + createHmac("sha256", key).update(id).digest("base64url");
  return {
    of,
    hashOf: (id) => sha256Hex(of(id)),
    idOf: (caller, idempotencyKey) => keyedUuid(key, `lease of ${caller}\n${idempotencyKey}`),
    check(id, token) {
      const expected = Buffer.from(of(id));
      const given = Buffer.from(token);
      if (given.length === expected.length && timingSafeEqual(given, expected)) return;
      if (token.startsWith(PREFIX)) {
        fail("stale-epoch", `this token is not of lease ${id}: it is another's, or an old one`, {
          remedy: "use the token that was answered when this lease was asked for",
        });
      }
      fail("bad-token", `lease ${id} wants its own token`);
    },
  };
}
