/**
 * The layout of a new installation (surface.md §3): pipeline `check`, no jobs, and comments that
 * teach the rest. Written once; afterwards the folder is the operator's.
 */
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../base/files.ts";

/** Writes `check.yaml` where the folder is missing or has no layout file; says whether it did. */
export async function writeDefaultLayout(directory: string): Promise<boolean> {
  await mkdir(directory, { recursive: true });
  const names = await readdir(directory);
  if (names.some((name) => /\.ya?ml$/.test(name))) return false;
  await writeFileAtomic(join(directory, "check.yaml"), defaultLayout);
  return true;
}

export const defaultLayout = `# The layout: which jobs run for which change.
# Zuul's language, see docs/config.md.
# Every *.yaml in this folder is read; after a change run: rackyard reload

# A pipeline: what starts it, and what it votes when its jobs are done.
- pipeline:
    name: check
    description: Every new patchset, and every comment that begins with "recheck".
    manager: independent
    trigger:
      local:
        - event: patchset-created
        - event: change-restored
        - event: comment-added
          comment: '(?i)^\\s*recheck'
    success: { local: { Verified: 1 } }
    failure: { local: { Verified: -1 } }

# A job and a project look like this, in a file of your own beside this one:
#
# - job:
#     name: unit
#     nodeset: { nodes: [ { name: node, label: worker } ] }
#     timeout: 600
#     run: make test                 # a shell command, or a list; it starts in the checkout
#
# - job:
#     name: deploy
#     parent: unit
#     testenv: { machines: 2 }       # a rack of its own: two machines and a seed
#     required-projects: [ my-project, my-installer ]
#     run: ./deploy.sh
#
# - project:                         # naming it here makes its repository exist
#     name: my-project
#     check: { jobs: [ unit, deploy ] }
# - project:
#     name: my-installer
`;
