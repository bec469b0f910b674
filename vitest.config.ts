/**
 * Which tests run where: `pure` sits beside its source and needs nothing from the machine; `sim`
 * runs whole worlds in simulated time; `scenarios` joins real parts in one process; `conformance`
 * speaks to foreign programs; `live` boots machines in cells of its own; `web` drives Chromium.
 */
import { defineConfig } from "vitest/config";

/** Suites that share the machine run file by file. */
const alone = { fileParallelism: false, testTimeout: 120_000 };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "pure",
          include: ["src/**/*.test.ts", "tools/**/*.test.ts"],
          exclude: ["src/sim/**"],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: "sim",
          include: ["src/sim/**/*.test.ts", "test/sim/**/*.test.ts"],
          testTimeout: 300_000,
        },
      },
      { test: { name: "scenarios", include: ["test/scenarios/**/*.test.ts"], ...alone } },
      { test: { name: "conformance", include: ["test/conformance/**/*.test.ts"], ...alone } },
      {
        test: {
          name: "live",
          include: ["test/live/**/*.test.ts"],
          ...alone,
          testTimeout: 900_000,
          hookTimeout: 600_000,
        },
      },
      {
        test: {
          name: "web",
          include: ["test/web/**/*.test.ts"],
          ...alone,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
