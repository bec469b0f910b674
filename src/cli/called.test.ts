import { expect, test } from "vitest";
import { asCalled } from "./called.ts";

test.each([
  ["sudo rackyard up", "./rackyard", "sudo ./rackyard up"],
  [
    "see rackyard te list; or `rackyard help`",
    "./rackyard",
    "see ./rackyard te list; or `./rackyard help`",
  ],
  ["run rackyard lease -- ./run.sh", "/srv/rackyard", "run /srv/rackyard lease -- ./run.sh"],
  ["sudo ./rackyard up", "/srv/rackyard", "sudo ./rackyard up"],
  ["in /var/lib/rackyard now", "./rackyard", "in /var/lib/rackyard now"],
  ["no Rackyard runs; rackyard: x", "./rackyard", "no Rackyard runs; rackyard: x"],
  ["sudo rackyard up", "rackyard", "sudo rackyard up"],
  ["sudo rackyard up", undefined, "sudo rackyard up"],
])("commands to type are named as the person calls them: %s, called %s", (text, called, said) => {
  expect(asCalled(text, called)).toBe(said);
});
