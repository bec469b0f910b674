/**
 * Milestone M2: ten times a rack is lent to a command by `rackyard lease` and comes back with
 * proof, its agent killed each time at another moment of the command's work. Twice the command is
 * the example's whole job, else the shortest one that still uses gate and machines.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { plainEnv, launch } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import { verifyCertificate } from "../../src/model/certificate.ts";
import type { LeaseView } from "../../src/model/lease.ts";
import type { Certificate, HostView, TestenvView } from "../../src/model/testenv.ts";
import { calibrateBoot } from "./calibrate.ts";
import { exampleDirectory } from "./example.ts";
import { prepareGuest } from "./guest.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";
