/**
 * Makes a node and waits until its sshd shows the host key that was made for it (H-17.1), and
 * takes a node away. Every step may run twice: a launch that was cut short goes on where it is.
 */
import { access, chmod, mkdir, rm } from "node:fs/promises";
import { connect } from "node:net";
import { fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";
import type { Hypervisor, PortRule } from "../hypervisor/hypervisor-port.ts";
import type { ImageStore } from "../image/content-store.ts";
import { nodeDomainName } from "../model/machine.ts";
import { showsHostKey } from "../ssh/host-key.ts";
import { keptHostKey } from "../ssh/keys.ts";
import { makeConfigDrive } from "./config-drive.ts";
import type { HostNode } from "./node-life.ts";
import type { NodeParts } from "./node-parts.ts";

export type LaunchTools = {
  readonly hypervisor: Hypervisor;
  readonly images: Pick<ImageStore, "find" | "pathOf">;
  readonly setRule: (rule: PortRule) => Promise<void>;
  readonly removeRule: (tap: string) => Promise<void>;
};

/** Gives the node's public host key once it answered with it. */
export async function launchNode(
  tools: LaunchTools,
  node: HostNode,
  parts: NodeParts,
  signal: AbortSignal,
): Promise<string> {
  const { hypervisor } = tools;
  const image = await tools.images.find(node.spec.image);
  if (!image) fail("image-missing", `this host has no image ${node.spec.image}`);
  await mkdir(parts.folder, { recursive: true });
  await chmod(parts.folder, 0o711); // QEMU's account passes through to its own two files
  const name = nodeDomainName(node.id).replace("_", "-");
  const key = await keptHostKey(parts.hostKeyFile, name);
  const on = await isOn(hypervisor, parts);
  if (!on) {
    await makeConfigDrive(parts.configDrive, `${parts.folder}/config`, {
      id: node.id,
      hostName: name,
      hostPrivateKey: key.privateKey,
      authorizedKey: node.spec.authorizedKey,
    });
    const base = { path: tools.images.pathOf(image.digest), format: image.format };
    const sizeBytes = Math.max(parts.disk.sizeBytes, image.virtualBytes);
    if (!(await exists(parts.disk.path))) {
      await hypervisor.disks.createOverlay({ path: parts.disk.path, base, sizeBytes });
    }
    await hypervisor.testNetwork.reserve(parts.mac, node.address, name);
    await tools.setRule(parts.rule);
    await hypervisor.domains.define(parts.spec);
    signal.throwIfAborted();
    await hypervisor.domains.start(parts.spec.uuid);
  }
  await waitForHostKey(node.address, key.publicKey, signal, () => isOn(hypervisor, parts));
  return key.publicKey;
}

/** Nothing of the node is left when it returns. */
export async function tearDownNode(tools: LaunchTools, parts: NodeParts): Promise<void> {
  const { domains, testNetwork } = tools.hypervisor;
  const known = (await domains.list()).some(({ uuid }) => uuid === parts.spec.uuid);
  if (known) {
    await domains.destroy(parts.spec.uuid);
    await domains.undefine(parts.spec.uuid);
  }
  await until(async () => (await domains.processesOf(parts.spec.uuid)).length === 0, {
    timeoutMs: limits.virshActMs,
    everyMs: 20,
    what: `the process of ${parts.spec.name} to end`,
  });
  await tools.removeRule(parts.rule.tap);
  await testNetwork.releaseLease(parts.mac);
  await testNetwork.unreserve(parts.mac);
  await rm(parts.folder, { recursive: true, force: true });
}

async function waitForHostKey(
  host: string,
  key: string,
  signal: AbortSignal,
  isOn: () => Promise<boolean>,
): Promise<void> {
  const outcome = await until(
    async () => {
      if (!(await listens(host, 22))) return (await isOn()) ? false : "off";
      const target = { host, port: 22 };
      return (await showsHostKey(target, key, { timeoutSeconds: 20, signal })) && "shown";
    },
    {
      timeoutMs: limits.nodeLaunchMs,
      everyMs: limits.pollMs * 5,
      signal,
      what: "the node's sshd to show its host key",
    },
  );
  if (outcome === "off") fail("unavailable", "the node turned itself off");
}

/** A connection costs an emulated guest little; a handshake costs it a second. */
function listens(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: limits.localConnectMs });
    const finish = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => finish(true));
    socket.once("error", () => finish(false));
    socket.once("timeout", () => finish(false));
  });
}

async function isOn(hypervisor: Hypervisor, parts: NodeParts): Promise<boolean> {
  const all = await hypervisor.domains.list();
  return all.some(({ uuid, power }) => uuid === parts.spec.uuid && power === "on");
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
