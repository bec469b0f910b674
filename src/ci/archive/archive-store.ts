/**
 * Where the archive's files lie, as a port: whole files by their path, read by ranges, listed,
 * removed, counted. Nothing here knows a build. The file system is the first (file-store.ts); an
 * object store keeps the same promises, so no file is changed in place.
 */
import type { Readable } from "node:stream";

/** Bytes from `start` to `end`, both counted (RFC 9110 §14.1.2). */
export type ByteRange = { readonly start: number; readonly end: number };

export type StoredFile = {
  readonly bytes: number;
  readonly modifiedMs: number;
  read(range?: ByteRange): Readable;
};

export type StoredEntry = {
  readonly name: string;
  /** Of a file; undefined for a folder. */
  readonly bytes?: number;
};

export type PutOptions = {
  /** Beyond, the file ends here and `whole` is false. */
  readonly limitBytes?: number;
  readonly signal?: AbortSignal;
};

export type Put = { readonly bytes: number; readonly whole: boolean };

/** What a file is made of: bytes, a stream that is read once, or a file of this machine. */
export type PutSource = string | Uint8Array | AsyncIterable<Uint8Array> | { readonly file: string };

/** Paths are relative, `/` between their parts. Throws `no-space` where the store is full. */
export type ArchiveStore = {
  /** Replaces the file; a reader sees the old or the new one, a failure leaves the old one. */
  put(path: string, source: PutSource, options?: PutOptions): Promise<Put>;
  /** Undefined where there is no such file. */
  get(path: string): Promise<StoredFile | undefined>;
  /** What a folder has, by name; empty where there is none. */
  entries(folder: string): Promise<StoredEntry[]>;
  /** All files below a folder, by path relative to it. */
  list(folder: string): Promise<{ path: string; bytes: number }[]>;
  /** Removes a file or a folder with all below it, and folders above that are empty then. */
  remove(path: string): Promise<void>;
  /** Files below a folder, and what removing them would free. */
  usage(folder: string): Promise<{ files: number; bytes: number }>;
};
