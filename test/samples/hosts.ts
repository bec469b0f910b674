/** Hosts that tests of brokers, ledgers and pools begin with: small, with nothing on them. */
import type { Hello } from "../../src/model/session.ts";
import type { TestenvReport } from "../../src/model/testenv.ts";

type Lists = "kind" | "testenvs" | "nodes" | "images" | "processes";
type Facts = Omit<Hello, Lists>;

/** A small host: what tests around hosts begin with. */
export function sampleFacts(changes: Partial<Facts> = {}): Facts {
  return {
    hostId: "11111111-2222-4333-8444-555555555555",
    name: "here",
    version: "0",
    sessionNumber: 1,
    bootId: "b",
    labels: [],
    accelerator: "tcg",
    capacity: { memoryMiB: 1, cpus: 1, diskGiB: 1 },
    certificateKey: "",
    ca: null,
    testNetwork: { cidr: "10.99.0.0/24", hostIp: "10.99.0.1", machineIp: "10.99.0.2" },
    ssh: { host: "10.99.0.1", port: 22, hostKey: "ssh-ed25519 AAAA" },
    cell: null,
    libvirt: null,
    draining: false,
    ...changes,
  };
}

/** The same as it says hello, with nothing on it. */
export function sampleHello(changes: Partial<Hello> = {}): Hello {
  const nothing = { testenvs: [], nodes: [], images: [], processes: [] };
  return { kind: "hello", ...sampleFacts(), ...nothing, ...changes };
}

/** A small TE as its host reports it: at rest, in nobody's hands. */
export function sampleReport(changes: Partial<TestenvReport> = {}): TestenvReport {
  return {
    number: 1,
    kind: "two",
    labels: [],
    state: "ready",
    epoch: "0",
    draining: false,
    lease: null,
    leaseEpoch: null,
    deadlineAt: null,
    ended: null,
    machines: { count: 2, memoryMiB: 256, cpus: 1, diskGiB: 4 },
    machineList: [],
    seedIp: "10.99.0.11",
    certificate: null,
    detail: null,
    ...changes,
  };
}
