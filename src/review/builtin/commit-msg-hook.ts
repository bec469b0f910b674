/**
 * The commit-msg hook that authors install: adds `Change-Id: I…` to messages that have none.
 * POSIX sh and git alone; served as text at GET /git/hooks/commit-msg and, as
 * Gerrit has it, /tools/hooks/commit-msg.
 */

export const commitMsgHook = `#!/bin/sh
# Adds a Change-Id to the commit message, so that rackyard knows a commit again when it is
# amended. Install as .git/hooks/commit-msg, executable. Leaves alone: messages that have one,
# empty messages (git then gives up the commit), and fixup! and squash! commits.
set -eu

file=\${1:?usage: commit-msg FILE}

# Below the scissors of \`git commit -v\` is a diff, no message.
text=$(sed '/^. -* >8 -*$/,$d' "$file" | git stripspace --strip-comments)
test -n "$text" || exit 0
case $text in
  fixup!* | squash!* | amend!*) exit 0 ;;
esac

if printf '%s\\n' "$text" | grep -Eqi '^Change-Id: I[0-9a-f]{40}[[:space:]]*$'; then
  exit 0
fi

id=$(
  {
    git var GIT_COMMITTER_IDENT
    git write-tree 2>/dev/null || :
    git rev-parse --verify --quiet HEAD || :
    printf '%s %s\\n' "$$" "$text"
    dd if=/dev/urandom bs=20 count=1 2>/dev/null | od -An -tx1
  } | git hash-object --stdin | cut -c1-40
)
git interpret-trailers --in-place --no-divider --if-exists doNothing --trailer "Change-Id: I$id" "$file"
`;
