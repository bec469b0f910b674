/**
 * A durable store in memory behind the real interface: what is committed survives the kill of its
 * program, nothing else does. Transactions take time, fail while the disk does, and the program
 * may be killed before or after each commit.
 */
import { RackyardError } from "../base/errors.ts";
import type { LifeKind, LifeRow, Store, Tx } from "../store/store.ts";
import { never } from "./clock.ts";
import type { Life, Timeline } from "./clock.ts";
import type { SeededRandom } from "./random.ts";

type Row = Omit<LifeRow<object>, "body"> & { readonly life: string; readonly body: string };
type Contents = { readonly rows: Map<string, Row>; readonly facts: Map<string, string> };

export type Disk = {
  contents: Contents;
  seq: number;
  /** Steps of each life that were committed, however old the contents are by now. */
  readonly steps: Map<string, number>;
  /** Life, id, state and number of whatever was ever committed. */
  readonly held: Set<string>;
  /** Every commit fails. */
  full: boolean;
  /** When a commit last failed, in simulated ms. */
  failedMs: number;
};

export type DiskUser = {
  readonly life: Life;
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  /** How likely the program is killed at a commit: before it, and after it. */
  readonly killChance: () => number;
  readonly kill: () => void;
};

export function emptyDisk(): Disk {
  const contents = { rows: new Map<string, Row>(), facts: new Map<string, string>() };
  return { contents, seq: 0, steps: new Map(), held: new Set(), full: false, failedMs: -Infinity };
}

/** What a backup keeps. */
export function copyOf({ contents }: Disk): Contents {
  return { rows: new Map(contents.rows), facts: new Map(contents.facts) };
}

export function storeOn(disk: Disk, user: DiskUser): Store {
  const { life, timeline, random } = user;
  let last: Promise<unknown> = Promise.resolve();
  const writesOf = (tx: Tx): (() => void)[] => tx as unknown as (() => void)[];

  async function commit<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    if (!life.alive) return never();
    const writes: (() => void)[] = [];
    const result = await work(writes as unknown as Tx);
    await timeline.sleep(random.between(0, 3));
    if (!life.alive) return never();
    if (disk.full) {
      disk.failedMs = timeline.nowMs;
      throw new RackyardError("no-space", "the simulated disk is full");
    }
    if (random.chance(user.killChance())) {
      user.kill();
      return never();
    }
    for (const write of writes) write();
    if (random.chance(user.killChance())) user.kill();
    await timeline.sleep(random.between(0, 3));
    return life.alive ? result : never();
  }

  const read = <T>(value: () => T): Promise<T> => (life.alive ? Promise.resolve(value()) : never());
  const rowsOf = <Body extends object>(kind: Pick<LifeKind<Body>, "life">): LifeRow<Body>[] =>
    [...disk.contents.rows.values()].filter((row) => row.life === kind.life).map(parsed<Body>);
  const absent = (): never => {
    throw new Error("not in the simulated store");
  };

  return {
    get db(): never {
      return absent();
    },
    transaction(work) {
      const next = last.then(() => commit(work));
      last = next.catch(() => undefined);
      return next;
    },
    append(tx, kind, step) {
      const seq = ++disk.seq;
      const body = JSON.stringify(step.body);
      const { id, to: state, atMs: updatedMs } = step;
      const { n = null } = kind.columns(step.body);
      writesOf(tx).push(() => {
        const key = `${kind.life} ${id}`;
        disk.held.add(`${key} ${state} ${n}`);
        disk.steps.set(key, (disk.steps.get(key) ?? 0) + 1);
        const createdMs = disk.contents.rows.get(key)?.createdMs ?? updatedMs;
        disk.contents.rows.set(key, {
          life: kind.life,
          id,
          state,
          createdMs,
          updatedMs,
          seq,
          body,
        });
      });
      return Promise.resolve(seq);
    },
    row: <Body extends object>(kind: LifeKind<Body>, id: string) =>
      read(() => {
        const row = disk.contents.rows.get(`${kind.life} ${id}`);
        return row && parsed<Body>(row);
      }),
    rows: <Body extends object>(kind: LifeKind<Body>, query: Parameters<Store["rows"]>[1]) =>
      read(() => {
        const all = rowsOf<Body>(kind).sort(byAge);
        const { states, after } = query;
        return all
          .filter((row) => !states || states.includes(row.state))
          .filter((row) => !after || byAge(row, after) > 0)
          .slice(0, query.limit);
      }),
    fact: (name) => read(() => disk.contents.facts.get(name)),
    setFact(tx, name, value) {
      writesOf(tx).push(() => void disk.contents.facts.set(name, value));
      return Promise.resolve();
    },
    idsBeginning: absent,
    rowsOf: absent,
    newestOfEach: absent,
    newestIdsOfEach: absent,
    countStates: absent,
    events: absent,
    newestSeq: absent,
    forgetEvents: absent,
    rebuild: absent,
    facts: absent,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function parsed<Body extends object>(row: Row): LifeRow<Body> {
  return { ...row, body: JSON.parse(row.body) as Body };
}

function byAge(
  a: { readonly createdMs: number; readonly id: string },
  b: { readonly createdMs: number; readonly id: string },
): number {
  return a.createdMs - b.createdMs || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}
