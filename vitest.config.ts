/**
 * Which tests run where: `pure` sits beside its source and needs nothing from the machine;
 * `scenarios` joins real parts in one process; `conformance` speaks to foreign programs;
 * `live` boots machines in cells of its own; `web` drives Chromium.
 */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      {
        test: { name: "pure", include: ["src/**/*.test.ts", "tools/**/*.test.ts"], testTimeout: 30_000 },
      },
      { test: { name: "scenarios", include: ["test/scenarios/**/*.test.ts"], testTimeout: 120_000, fileParallelism: false } },
      { test: { name: "conformance", include: ["test/conformance/**/*.test.ts"], testTimeout: 120_000, fileParallelism: false } },
      { test: { name: "live", include: ["test/live/**/*.test.ts"], testTimeout: 900_000, hookTimeout: 600_000, fileParallelism: false } },
      { test: { name: "web", include: ["test/web/**/*.test.ts"], testTimeout: 120_000, fileParallelism: false } },
    ],
  },
});
