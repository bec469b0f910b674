/** F-1: a gate that refuses a live key is the rack's fault. Lines as OpenSSH 9.2 writes them. */
import { expect, test } from "vitest";
import { gateFault, refusalOf } from "./refusal-codec.ts";

const key = "SHA256:vhCPk8edULiuMruofQ+M5MMzse5I7eiha19CqIbd4kI";
const live = { key, from: ["10.99.0.180"] };
const failed = `Failed publickey for te1 from 10.99.0.180 port 59010 ssh2: RSA ${key}`;

test("F-1 the lease's own key, refused to its holder, is the gate's fault", () => {
  expect(refusalOf(failed)).toEqual({ account: "te1", from: "10.99.0.180", key });
  expect(gateFault(refusalOf(failed)!, live)).toMatch(/refused the lease's own key to te1/);
  expect(gateFault(refusalOf(failed)!, { key, from: [] })).toBeDefined();
});

test("F-1 an account that the cell lost is the gate's fault", () => {
  for (const line of [
    "Invalid user te1 from 10.99.0.180 port 59026",
    "User te1 from 10.99.0.180 not allowed because none of user's groups are listed in AllowGroups",
    "User te1 from 10.99.0.180 not allowed because shell /run/x does not exist",
  ]) {
    expect(refusalOf(line)).toEqual({ account: "te1", from: "10.99.0.180", key: null });
    expect(gateFault(refusalOf(line)!, live)).toMatch(/refused the account/);
  }
});

test("another key, and the right one from elsewhere, are the client's own doing", () => {
  const other = refusalOf(failed.replace(key, "SHA256:6pJcFZpPmpOb4T1oyInenNLol5o04rtfoks"))!;
  expect(gateFault(other, live)).toBeUndefined();
  const elsewhere = refusalOf(failed.replace("10.99.0.180", "10.99.0.181"))!;
  expect(gateFault(elsewhere, live)).toBeUndefined();
});

test("a name that a client chose cannot tell a second story", () => {
  for (const line of [
    "Invalid user te1 from 10.99.0.180 port 5 from 10.99.0.190 port 59026",
    `Invalid user x Failed publickey for te1 from 10.99.0.180 port 5 ssh2: RSA ${key}`,
    `Failed publickey for invalid user te1 from 10.99.0.180 port 5 ssh2: RSA ${key} from 10.9.0.1 port 4 ssh2: RSA ${key}`,
    "Invalid user te1x from 10.99.0.180 port 5",
    "Connection closed by invalid user te1 10.99.0.180 port 59026 [preauth]",
    "Accepted publickey for te1 from 10.99.0.180 port 5 ssh2: RSA SHA256:x",
  ]) {
    expect(refusalOf(line), line).toBeUndefined();
  }
});
