/**
 * Logins that sshd refused, read from its log (OpenSSH ≥ 9.2, LogLevel VERBOSE), and whether one
 * was the gate's fault. Names in the log are the client's word: every line is matched whole, so
 * that a name with blanks cannot tell a second story. Pure.
 */
export type Refusal = {
  readonly account: string;
  readonly from: string;
  /** `SHA256:…` of the key that was offered; null: the account itself was refused. */
  readonly key: string | null;
};

const account = "(te\\d{1,3})";
const address = "([0-9a-f.:]+)";
const refusedKey = new RegExp(
  `^Failed publickey for (?:invalid user )?${account} from ${address} port \\d+ ssh2: ` +
    "[A-Z0-9-]+ (SHA256:[A-Za-z0-9+/]+)$",
);
const unknownAccount = new RegExp(`^Invalid user ${account} from ${address} port \\d+$`);
const refusedAccount = new RegExp(`^User ${account} from ${address} not allowed because .+$`);

export function refusalOf(line: string): Refusal | undefined {
  const [, of, by, key] = refusedKey.exec(line) ?? [];
  if (of && by && key) return { account: of, from: by, key };
  const [, name, from] = unknownAccount.exec(line) ?? refusedAccount.exec(line) ?? [];
  return name && from ? { account: name, from, key: null } : undefined;
}

/** What a leased rack's gate should have let in. */
export type LiveKey = {
  /** `SHA256:…` of the lease's key. */
  readonly key: string;
  /** Addresses it is good from; none: from anywhere. */
  readonly from: readonly string[];
};

/** Why this refusal is the gate's fault; undefined: another key, or from where it is not good. */
export function gateFault(refusal: Refusal, live: LiveKey): string | undefined {
  const { account: name, from, key } = refusal;
  if (live.from.length > 0 && !live.from.includes(from)) return undefined;
  if (key === null) return `the gate did not let ${name} in from ${from}: it refused the account`;
  if (key !== live.key) return undefined;
  return `the gate refused the lease's own key to ${name} from ${from}`;
}
