/**
 * How bad the days of a world are, as likelihoods of what fails by itself. What happens at a
 * moment of its own (kills, cuts, full disks, jumps of clocks) is world.ts'. All zero: a world that
 * is to come to rest.
 */
export type Faults = {
  /** Kill at a commit, of broker and agents. */
  killChance: number;
  /** A rack's work that fails: opening, fence, reset. */
  rackChance: number;
  /** An answer to a holder that is lost on its way. */
  answerChance: number;
};

export const noFaults: Faults = { killChance: 0, rackChance: 0, answerChance: 0 };
