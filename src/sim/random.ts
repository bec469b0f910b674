/**
 * Randomness from a seed: the same seed, the same world. Each part draws from a row of its own
 * (`fork`). The generator is sfc32; ids are made of it and of what was made before.
 */
import { uuid5 } from "../base/ids.ts";
import type { Random } from "../base/random.ts";

export type SeededRandom = Random & {
  /** A whole number, both ends included. */
  between(low: number, high: number): number;
  chance(probability: number): boolean;
  pick<T>(from: readonly T[]): T;
  /** A row of its own, so that what one part draws moves no other. */
  fork(name: string): SeededRandom;
};

const NAMESPACE = "5d0f8a54-5a43-4c53-9a49-0f6f5e3b7a10";

export function seededRandom(seed: string): SeededRandom {
  const hex = uuid5(NAMESPACE, seed).replaceAll("-", "");
  let [a, b, c] = [0, 8, 16].map((at) => Number.parseInt(hex.slice(at, at + 8), 16)) as [
    number,
    number,
    number,
  ];
  let counter = 1;
  let made = 0;
  const next = (): number => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return t >>> 0;
  };
  for (let turn = 0; turn < 12; turn++) next();
  const fraction = (): number => next() / 2 ** 32;
  const uuid = (): string => uuid5(NAMESPACE, `${seed} ${made++} ${next()}`);
  return {
    fraction,
    bytes: (count) => Buffer.from(Array.from({ length: count }, () => next() & 0xff)),
    uuid4: uuid,
    uuid7: uuid,
    between: (low, high) => low + Math.floor(fraction() * (high - low + 1)),
    chance: (probability) => fraction() < probability,
    pick: (from) => from[Math.floor(fraction() * from.length)]!,
    fork: (name) => seededRandom(`${seed}/${name}`),
  };
}
