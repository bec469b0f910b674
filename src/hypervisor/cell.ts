/**
 * The cell (surface.md §9): a network namespace, a mount namespace and a control group in which
 * everything of one TE host lives. Made and entered here; ended in cell-end.ts.
 */
import { fail } from "../base/errors.ts";
import type { CommandOptions, CommandResult } from "../base/command.ts";
import type { Log } from "../base/log.ts";

/** What is known of a cell, the same for all who look; kept in `<state>/te/cell/cell.json`. */
export type Cell = {
  /** The state directory, its real path. */
  readonly state: string;
  readonly netns: string;
  readonly cidr: string;
  /** .1, `host-ip`: the cell's own address. */
  readonly hostIp: string;
  /** .2: the machine outside. */
  readonly machineIp: string;
  readonly mtu: number;
  /** libvirt as reached from outside. */
  readonly libvirtUri: string;
};

/** In the machine's world, as root: makes the cell or finds it whole. May be called twice. */
export async function prepareCell(options: {
  readonly state: string;
  readonly cidr: string;
  readonly mtu: number;
  readonly log: Log;
}): Promise<Cell> {
  return fail("unavailable", `no cell for ${options.state}`);
}

/** The cell of a state directory as recorded; undefined where none was made. */
export async function readCell(state: string): Promise<Cell | undefined> {
  return fail("unavailable", `no cell for ${state}`);
}

/** Is this process inside of the cell? */
export function insideCell(cell: Cell): boolean {
  return cell.state === "";
}

/** Becomes `program` inside of the cell: same pid, same standard streams. */
export function enterCell(cell: Cell, program: string, args: readonly string[]): never {
  return fail("unavailable", `${program} ${args.join(" ")} cannot enter ${cell.netns}`);
}

/** Runs a program inside of the cell, from outside, to its end. */
export async function runInCell(
  cell: Cell,
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return fail("unavailable", `${program} ${args.join(" ")} ${options.cwd} ${cell.netns}`);
}
