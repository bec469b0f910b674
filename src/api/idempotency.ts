/**
 * `Idempotency-Key`: a POST that makes something is done once; a second try with the same key
 * gets the first one's answer, another body is refused (surface.md §5). Answers may carry a
 * token shown once: what is stored is sealed under the key itself, which only its sender has.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { fail } from "../base/errors.ts";
import { sha256Hex } from "../base/ids.ts";

export type KeptAnswer = {
  readonly bodyHash: string;
  readonly status: number;
  readonly answer: string;
};

/** Where answers are kept; durable. */
export type AnswerStore = {
  find(key: string): Promise<KeptAnswer | undefined>;
  keep(key: string, answer: KeptAnswer): Promise<void>;
};

export type Once = {
  /**
   * Runs `act`, or answers as the first time. `scope` names caller and route. Only what
   * succeeded is kept: after a refusal the same key may be tried again.
   */
  run(
    scope: string,
    key: string,
    body: string,
    act: () => Promise<{ status: number; json: string }>,
  ): Promise<{ status: number; json: string }>;
};

export function onceWith(store: AnswerStore): Once {
  const running = new Map<string, Promise<unknown>>();

  const first = async (
    name: string,
    key: string,
    bodyHash: string,
    act: () => Promise<{ status: number; json: string }>,
  ): Promise<{ status: number; json: string }> => {
    const kept = await store.find(name);
    if (kept) {
      if (kept.bodyHash !== bodyHash) {
        fail("idempotency-mismatch", "this Idempotency-Key was used with another body", {
          remedy: "use a new key for a new request",
        });
      }
      return { status: kept.status, json: unseal(kept.answer, key) };
    }
    const done = await act();
    await store.keep(name, { bodyHash, status: done.status, answer: seal(done.json, key) });
    return done;
  };

  return {
    async run(scope, key, body, act) {
      if (!/^[\x21-\x7e]{1,200}$/.test(key)) {
        fail("bad-request", "an Idempotency-Key is 1 to 200 printable characters");
      }
      const name = sha256Hex(`${scope}\n${key}`);
      // Two at once with the same key: the second waits for the first, then reads its answer.
      const before = running.get(name);
      const mine = (before ?? Promise.resolve())
        .catch(() => undefined)
        .then(() => first(name, key, sha256Hex(body), act));
      running.set(name, mine);
      try {
        return await mine;
      } finally {
        if (running.get(name) === mine) running.delete(name);
      }
    },
  };
}

function secretOf(key: string, salt: Buffer): Buffer {
  return Buffer.from(hkdfSync("sha256", key, salt, "rackyard idempotent answer", 32));
}

/** AES-256-GCM; salt, nonce, tag and text, base64. */
export function seal(text: string, key: string): string {
  const salt = randomBytes(16);
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", secretOf(key, salt), nonce);
  const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
  return Buffer.concat([salt, nonce, cipher.getAuthTag(), sealed]).toString("base64");
}

export function unseal(sealed: string, key: string): string {
  const bytes = Buffer.from(sealed, "base64");
  const decipher = createDecipheriv(
    "aes-256-gcm",
    secretOf(key, bytes.subarray(0, 16)),
    bytes.subarray(16, 28),
  );
  decipher.setAuthTag(bytes.subarray(28, 44));
  return Buffer.concat([decipher.update(bytes.subarray(44)), decipher.final()]).toString("utf8");
}
