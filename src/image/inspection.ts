/**
 * Judges an image file: our own header reader first, then `qemu-img info` with the format that
 * was found, as nobody, with limits on memory and time (H-7.5). The file comes to qemu-img as
 * its standard input, so that nobody needs no way through our directories. Keeps nothing.
 */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { z } from "zod";
import { launch } from "../base/command.ts";
import { fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { readText } from "../base/http-client.ts";
import { within } from "../base/wait.ts";
import { headBytes, readImageHeader, tailBytes } from "./header-codec.ts";
import type { ImageHeader } from "./header-codec.ts";

const NOBODY = "65534";

const infoSchema = z.looseObject({
  format: z.string(),
  "virtual-size": z.int(),
  "backing-filename": z.string().optional(),
  encrypted: z.boolean().optional(),
  snapshots: z.array(z.unknown()).optional(),
});

/**
 * What the file is. Throws `image-dangerous`, `image-format` or `image-too-large`.
 * `maxVirtualBytes` is the most its disk may have.
 */
export async function inspectImage(
  path: string,
  maxVirtualBytes: number,
  signal?: AbortSignal,
): Promise<ImageHeader> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  const head = await bytesAt(file, 0, Math.min(size, headBytes));
  const tail = await bytesAt(file, Math.max(0, size - tailBytes), Math.min(size, tailBytes));
  const answer = readImageHeader(head, tail, size, maxVirtualBytes);
  if (!answer.ok) fail(answer.code, answer.detail);
  await askQemu(file, answer.header, signal);
  return answer.header;
}

async function bytesAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, at);
  return buffer.subarray(0, bytesRead);
}

async function askQemu(file: FileHandle, header: ImageHeader, signal?: AbortSignal): Promise<void> {
  const bounds = "--as=1073741824 --cpu=10 --nofile=64 --fsize=0 --";
  const user = `setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups --no-new-privs`;
  const info = `qemu-img info --output=json --force-share -f ${header.format} /proc/self/fd/0`;
  const args = [bounds, user, info].flatMap((part) => part.split(" "));
  await using child = launch("prlimit", args, { stdio: [file.fd, "pipe", "pipe"] });
  const [stdout, stderr, exit] = await within(
    limits.commandMs,
    "qemu-img info",
    Promise.all([
      readText(child.stdout!, limits.commandOutputBytes),
      readText(child.stderr!, limits.commandOutputBytes),
      child.exited,
    ]),
    signal,
  );
  if (exit.code !== 0) {
    const said = stderr.trim().split("\n").at(-1)?.slice(0, 200) ?? "";
    fail("image-format", `qemu-img does not take the image as ${header.format}: ${said}`);
  }
  const answer = infoSchema.parse(JSON.parse(stdout));
  if (answer["backing-filename"] !== undefined) {
    fail("image-dangerous", "the image names a backing file");
  }
  if (answer.encrypted) fail("image-dangerous", "the image is encrypted");
  if ((answer.snapshots?.length ?? 0) > 0) fail("image-dangerous", "the image holds snapshots");
  // qemu-img rounds a raw image up to sectors of 512 bytes
  if (answer["virtual-size"] - header.virtualBytes >= 512 || answer.format !== header.format) {
    fail("image-dangerous", "qemu-img reads another image than its header says");
  }
}
