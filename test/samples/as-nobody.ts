/**
 * Running a program as somebody who is not root, wherever the tree stands: below a closed folder or
 * cloned under umask 077 nobody may read it, so the right to read stays (CAP_DAC_READ_SEARCH), and
 * no other.
 */

/** What setpriv(1) takes before the program. */
export const asNobody: readonly string[] = [
  "--reuid=65534",
  "--regid=65534",
  "--clear-groups",
  "--inh-caps=-all,+dac_read_search",
  "--ambient-caps=-all,+dac_read_search",
];
