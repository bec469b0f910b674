import { expect, test } from "vitest";
import { configSchema } from "../model/config.ts";
import { kindSchema } from "../model/machine.ts";
import type { Certificate } from "../model/testenv.ts";
import type { DomainState } from "../hypervisor/hypervisor-port.ts";
import { carve } from "./carve.ts";
import { newTestenv } from "./testenv-state.ts";
import type { Phase, Terms } from "./testenv-state.ts";
import { partsOf, seedRule } from "./parts.ts";
import { planTestenvs } from "./plan.ts";
import type { FoundParts, WantedTestenv } from "./plan.ts";

const hostId = "11111111-2222-4333-8444-555555555555";
const ground = {
  hostId,
  macKey: "key",
  disksFolder: "/d",
  consolesFolder: "/c",
  socketsFolder: "/s",
  mtu: 1500,
  testBridge: "br-ctlplane",
  seedIp: (number: number) => `10.99.0.${10 + number}`,
};
const kind = kindSchema.parse({});
const terms = { lease: "l", epoch: 1, holderAddresses: ["10.99.0.180"] } as unknown as Terms;
const phases = {
  ready: { state: "ready", certificate: {} as Certificate },
  provisioning: { state: "provisioning" },
  leased: { state: "leased", terms, deadline: { bootId: "b", monoMs: 1, at: "" } },
  resetting: { state: "resetting", terms, reason: "released", attempt: 1, endedAt: null },
} satisfies Record<string, Phase>;

function wanted(number: number, phase: Phase): WantedTestenv {
  const parts = partsOf(ground, number, "two", kind);
  const digests = new Map(parts.all.map(({ spec }) => [spec.uuid, `digest ${spec.name}`]));
  return { te: { ...newTestenv(number, "two"), epoch: 1, phase }, parts, digests };
}

function whole(...all: WantedTestenv[]): FoundParts {
  return {
    hostId,
    domains: all.flatMap(({ parts, digests }) =>
      parts.all.map(({ spec }): DomainState => {
        const plan = digests.get(spec.uuid) ?? null;
        return { name: spec.name, uuid: spec.uuid, power: "off", mark: spec.mark, plan };
      }),
    ),
    bridges: all.map(({ parts }) => parts.bridge),
    disks: new Set(all.flatMap(({ parts }) => parts.all.map(({ disk }) => disk.path))),
    rules: all.map(({ te, parts }) =>
      seedRule(parts, te.phase.state === "leased" ? terms.holderAddresses : []),
    ),
    accounts: all.map(({ te }) => te.number),
  };
}
const nothing: FoundParts = {
  hostId,
  domains: [],
  bridges: [],
  disks: new Set(),
  rules: [],
  accounts: [],
};
const kinds = (all: WantedTestenv[], found: FoundParts): string[] =>
  planTestenvs(all, found).map(({ kind: action, target }) => `${action} ${target}`);

test("H-1.3 a pass over an idle host plans nothing, in whatever state its TEs are", () => {
  const all = [wanted(1, phases.ready), wanted(2, phases.leased), wanted(3, phases.resetting)];
  expect(planTestenvs(all, whole(...all))).toEqual([]);
});

test("H-1.4 a host with nothing: bridges, accounts, disks, domains, then states", () => {
  expect(kinds([wanted(1, phases.provisioning)], nothing)).toEqual([
    "make-private-bridge brbm1",
    "set-gate-accounts gate",
    "make-disk seed_1",
    "make-disk baremetalbrbm1_0",
    "make-disk baremetalbrbm1_1",
    "define-domain seed_1",
    "define-domain baremetalbrbm1_0",
    "define-domain baremetalbrbm1_1",
    "set-seed-rule te1s0",
    "prove-testenv te1",
  ]);
});

test("H-1.12 what a free TE misses is rebuilt and proved; a leased TE is lost by it", () => {
  const free = wanted(1, phases.ready);
  const found = { ...whole(free), bridges: [] };
  expect(kinds([free], found)).toEqual(["rebuild-testenv te1", "make-private-bridge brbm1"]);
  const leased = wanted(1, phases.leased);
  expect(kinds([leased], { ...whole(leased), bridges: [] })).toEqual(["lose-testenv te1"]);
  expect(kinds([leased], { ...whole(leased), rules: [] })).toEqual(["set-seed-rule te1s0"]);
});

test("H-1.10 drift of a definition is mended when free, never under a lease", () => {
  const drifted = (one: WantedTestenv): FoundParts => {
    const found = whole(one);
    return { ...found, domains: found.domains.map((domain) => ({ ...domain, plan: "old" })) };
  };
  const free = wanted(1, phases.ready);
  expect(kinds([free], drifted(free))[0]).toBe("rebuild-testenv te1");
  const leased = wanted(1, phases.leased);
  expect(kinds([leased], drifted(leased))).toEqual([]);
});

test("H-1.10 ours that nobody wants is removed; what is not marked ours is never touched", () => {
  const gone = wanted(2, phases.ready);
  const found = { ...whole(gone), accounts: [] };
  expect(kinds([], found)).toEqual([
    "remove-domain seed_2",
    "remove-domain baremetalbrbm2_0",
    "remove-domain baremetalbrbm2_1",
    "remove-private-bridge brbm2",
  ]);
  const others = found.domains.map((domain): DomainState => ({ ...domain, mark: null }));
  expect(kinds([], { ...found, domains: others, bridges: ["br-ctlplane"] })).toEqual([]);
});

const host = { memoryTotalMiB: 24_000, cpusOnline: 2, diskGiB: 200 };
function carved(teHost: object, present: { number: number; kind: string }[] = []) {
  const carving = carve(configSchema.parse({ teHost }), host, present);
  return carving.kind === "carved" ? carving.wanted : carving.why;
}

test("H-1.6 H-1.7 without configuration as many racks of kind two as fit, nodes' part kept", () => {
  // CPUs: 2 × 4 − 2 nodes = 6, a rack of kind two takes 3
  expect(carved({})).toEqual([
    { number: 1, kind: "two" },
    { number: 2, kind: "two" },
  ]);
  expect(carved({ nodes: { reserve: { memoryMiB: 0, cpus: 5, diskGiB: 0 } } })).toHaveLength(1);
  expect(carved({ kinds: { two: { count: 9 } } })).toContain("CPUs");
});

test("H-1.9 numbers are stable: growth takes free ones, shrinking gives up the highest", () => {
  const many = { carve: { cpuOvercommit: 64, max: 4 } };
  expect(carved(many, [{ number: 3, kind: "two" }])).toEqual(
    [1, 2, 3, 4].map((number) => ({ number, kind: "two" })),
  );
  const four = [1, 2, 3, 4].map((number) => ({ number, kind: "two" }));
  expect(carved({}, four)).toEqual(four.slice(0, 2));
  const kinds = { two: { count: 1 }, one: { count: 1, machines: { count: 1 } } };
  expect(carved({ kinds }, four)).toEqual([
    { number: 1, kind: "two" },
    { number: 2, kind: "one" },
  ]);
});
