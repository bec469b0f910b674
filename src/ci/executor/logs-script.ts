/**
 * The script that sends a job's `logs/` from a node as a tar stream: pure. It chooses what fits
 * before anything is sent (a sparse file of two GiB of zeros would take minutes), reads as root
 * where the node lets it (jobs copy system logs), and names on stderr what it leaves out.
 */
import { limits } from "../../base/limits.ts";
import { shellQuote as q } from "./shell-words.ts";
import { WORKSPACE } from "./environment.ts";

export function logsScript(): string {
  const { collectLogsBytes, collectFiles, collectNamed } = limits;
  const fileBytes = limits.collectFileBytes;
  return `{
export LC_ALL=C
cd ${q(`${WORKSPACE}/logs`)} 2>/dev/null || exit 0
root=
if sudo -n true </dev/null 2>/dev/null; then root='sudo -n'; fi
named=0
leave() {
  named=$((named + 1))
  if [ "$named" -le ${collectNamed} ]; then printf 'left out: %q: %s\n' "$1" "$2" >&2; fi
}
choose() {
  files=0
  bytes=0
  while IFS= read -r -d '' entry; do
    kind=\${entry%%/*}; entry=\${entry#*/}
    size=\${entry%%/*}; entry=\${entry#*/}
    disk=\${entry%%/*}; name=\${entry#*/}
    if [ "$kind" != f ]; then leave "$name" 'no plain file'; continue; fi
    if [ "$files" -ge ${collectFiles} ]; then
      leave "$name" 'with all behind it: more than ${collectFiles} files'
      break
    fi
    if [ "$size" -gt ${fileBytes} ]; then
      leave "$name" "$size bytes ($disk KiB on disk), more than ${fileBytes} for one file"
      continue
    fi
    if [ $((bytes + size)) -gt ${collectLogsBytes} ]; then
      leave "$name" "$size bytes, more than ${collectLogsBytes} with those before it"
      continue
    fi
    files=$((files + 1)); bytes=$((bytes + size))
    printf '%s\\0' "./$name"
  done
  if [ "$named" -gt ${collectNamed} ]; then
    echo "left out: $((named - ${collectNamed})) more" >&2
  fi
}
$root find . -mindepth 1 ! -type d -printf '%y/%s/%k/%P\\0' </dev/null | choose |
  $root tar -cf - --format=gnu --hard-dereference --no-recursion --null --verbatim-files-from -T -
exit "\${PIPESTATUS[2]}"
}
`;
}
