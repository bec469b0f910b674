/**
 * Makes SSH keys: Ed25519 in OpenSSH's form (hosts, nodes), RSA-3072 in PEM for clients of 2014,
 * whose Ironic takes only text with `BEGIN RSA PRIVATE KEY` (H-6.4). A private key is a secret:
 * it goes into files of mode 0600 and TE data, never into a log or an argument.
 */
import { generateKeyPair } from "node:crypto";
import { readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { opensshPrivateKey, publicKeyLine } from "./key-codec.ts";

export type SshKeyPair = {
  /** PEM text of the whole private key, with its last newline. */
  readonly privateKey: string;
  /** `ssh-ed25519 AAAA…` or `ssh-rsa AAAA…`, without comment. */
  readonly publicKey: string;
};

export function makeEd25519Key(comment: string): Promise<SshKeyPair> {
  return new Promise((resolve, reject) => {
    generateKeyPair("ed25519", undefined, (error, publicKey, privateKey) => {
      if (error) reject(error);
      else {
        resolve({
          privateKey: opensshPrivateKey(privateKey, comment),
          publicKey: publicKeyLine(publicKey),
        });
      }
    });
  });
}

/** Takes 0.1–1 s of another thread. */
export function makeRsaKey(): Promise<SshKeyPair> {
  return new Promise((resolve, reject) => {
    generateKeyPair("rsa", { modulusLength: 3072 }, (error, publicKey, privateKey) => {
      if (error) reject(error);
      else {
        const pem = privateKey.export({ type: "pkcs1", format: "pem" }).toString();
        resolve({ privateKey: pem, publicKey: publicKeyLine(publicKey) });
      }
    });
  });
}

/** A host key kept in `path` (0600), its public half in `path.pub`; made if there is none. */
export async function keptHostKey(path: string, comment: string): Promise<SshKeyPair> {
  const privateKey = await readTextIfAny(path);
  const publicKey = await readTextIfAny(`${path}.pub`);
  if (privateKey && publicKey) return { privateKey, publicKey: publicKey.trim() };
  const made = await makeEd25519Key(comment);
  await writeFileAtomic(path, made.privateKey, 0o600);
  await writeFileAtomic(`${path}.pub`, `${made.publicKey}\n`);
  return made;
}
