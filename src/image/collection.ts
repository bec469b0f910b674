/**
 * Which images go when the disk fills up (H-7.7): least recently used first, from 80 % full down
 * to 70 %, never what somebody uses. Pure; looking at disks and removing is the host's.
 */

export type KeptImage = {
  readonly digest: string;
  readonly bytes: number;
  readonly usedAtMs: number;
};

export const collectAbove = 0.8;
const collectDownTo = 0.7;

/** Digests to remove, in order; `usedBytes` of `totalBytes` of the file system are taken. */
export function imagesToRemove(
  images: readonly KeptImage[],
  inUse: ReadonlySet<string>,
  disk: { readonly usedBytes: number; readonly totalBytes: number },
): string[] {
  if (disk.usedBytes <= collectAbove * disk.totalBytes) return [];
  let excess = disk.usedBytes - collectDownTo * disk.totalBytes;
  const victims: string[] = [];
  const free = images.filter(({ digest }) => !inUse.has(digest));
  for (const { digest, bytes } of [...free].sort((a, b) => a.usedAtMs - b.usedAtMs)) {
    if (excess <= 0) break;
    victims.push(digest);
    excess -= bytes;
  }
  return victims;
}
