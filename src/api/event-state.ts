/**
 * What a stream of events says first: the state of what its topics are about, as the lists of the
 * API give it. Over things are left out: who shows them reads their list.
 */
import { limits } from "../base/limits.ts";
import { buildStates } from "../model/build.ts";
import { leaseStates } from "../model/lease.ts";
import type { ApiEvent, ApiState, Views } from "./views.ts";

type Topic = ApiEvent["topic"];
type Looked = Pick<Views, "leases" | "fleet" | "changes" | "builds">;

export type StateReader = (topics: readonly Topic[]) => Promise<ApiState>;

const page = { limit: limits.pageItemsDefault };

/** No topics: all of them. */
export function openStateReader({ leases, fleet, changes, builds }: Looked): StateReader {
  const readers: Readonly<Record<Topic, () => Promise<readonly object[]>>> = {
    change: async () => (await changes.list({ ...page, status: "NEW" })).items,
    item: async () => (await builds.pipelines()).flatMap(({ items }) => items),
    build: () =>
      each(
        buildStates.filter((state) => state !== "reported"),
        (state) => builds.list({ ...page, state }),
      ),
    lease: () =>
      each(
        leaseStates.filter((state) => state !== "ended"),
        (state) => leases.list({ ...page, state }),
      ),
    testenv: () => fleet.testenvs(),
    host: () => fleet.hosts(),
    node: () => builds.nodes(),
  };
  return async (topics) => {
    const wanted = topics.length > 0 ? topics : (Object.keys(readers) as Topic[]);
    const read = wanted.map(async (topic) => [topic, await readers[topic]()] as const);
    return Object.fromEntries(await Promise.all(read));
  };
}

async function each<State extends string>(
  states: readonly State[],
  list: (state: State) => Promise<{ readonly items: readonly object[] }>,
): Promise<readonly object[]> {
  const pages = await Promise.all(states.map(list));
  return pages.flatMap(({ items }) => [...items]);
}
