/**
 * The git hook that gives every commit its Change-Id, served at `/git/hooks/commit-msg`. POSIX
 * shell, git and nothing else; a commit that has one keeps it, so amending makes a patchset.
 */

export const commitMsgHook = `#!/bin/sh
# Gives a commit its Change-Id, by which pushes of the same change are known. Installed as
# .git/hooks/commit-msg (executable). Amending keeps the line, and so makes a new patchset.
set -eu
file=$1

text=$(git stripspace --strip-comments <"$file")
case $text in
  '') exit 0 ;; # git itself refuses it
  fixup!* | squash!* | amend!*) exit 0 ;; # becomes part of another commit
esac
if printf '%s\\n' "$text" | git interpret-trailers --parse --no-divider |
  grep -qi '^change-id: *I[0-9a-f]\\{40\\} *$'; then
  exit 0
fi

id=$({
  git var GIT_AUTHOR_IDENT
  git write-tree
  git rev-parse --verify --quiet HEAD || true
  printf '%s\\n' "$text"
  od -An -N16 -tx1 /dev/urandom
} | git hash-object --stdin | cut -c1-40)
git interpret-trailers --in-place --no-divider --trailer "Change-Id: I$id" "$file"
`;
