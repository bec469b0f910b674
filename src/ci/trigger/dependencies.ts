/**
 * What a change needs and is not merged yet (ci.md D-1): its git parents that are open changes,
 * each in exactly the patchset that is the parent. Oldest first, each once; the walk is bounded
 * (D-7) and a merged change is never asked further.
 */
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { ReviewChange, ReviewPort } from "../../review/review-port.ts";

export type NeededChange = { readonly change: ReviewChange; readonly patchset: number };

/** Throws `too-many` where the series is longer than a push may be. */
export async function neededChanges(
  review: Pick<ReviewPort, "change">,
  tested: ReviewChange,
): Promise<NeededChange[]> {
  const found: NeededChange[] = [];
  const seen = new Set([tested.number]);
  let wave = [...tested.needs];
  while (wave.length > 0) {
    const next: typeof wave = [];
    for (const need of wave) {
      if (seen.has(need.change)) continue;
      seen.add(need.change);
      const change = await review.change(need.change);
      if (change.status !== "NEW") continue;
      found.unshift({ change, patchset: need.patchset });
      if (found.length > limits.commitsPerPush) {
        const detail = `change ${tested.number} needs more than ${limits.commitsPerPush} others`;
        fail("too-many", detail);
      }
      next.push(...change.needs);
    }
    wave = next;
  }
  return found;
}
