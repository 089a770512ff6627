# Lets only who has the cluster act on this node. Each hold of its lock has a number (`fence`), and a
# node that has seen a higher one refuses a lower at the moment of the act: who has slept through
# its lock (a closed lid) changes nothing any more. Who acts without a number is not asked.
: "${fence?}" "${fence_of?}" "${hold?}" "${holder?}"
. ./runs.sh
guarded=$state_dir/${fence_of:-$cluster} unwritten=''
seen() { # $highest $of $when $whose: the highest number seen here, and whose it is
  highest='' of='' when='' whose=''
  is_own "$guarded/fence" && read -r highest of when whose <"$guarded/fence"
  case $highest in '' | *[!0-9]* | ????????????*) highest=0 of='' ;; esac
}
guard() { # nobody else acts here until 9 is closed, which the kernel does however this shell ends
  # Where no folder can be, nothing is known either.
  { own "$guarded" && mkdir -p "$guarded" && chmod 700 "$state_dir" "$guarded"; } 2>/dev/null || return 0
  exec 9<"$guarded"
  perl -e 'alarm 20; flock STDIN, 2 or exit 1' <&9 || {
    case $? in
    126 | 127) echo "perl can't be run here, by which one command acts at a time" ;;
    *) echo "another command is acting here, and does not come to an end" ;;
    esac >&2
    exit 1
  }
}
claim() { # whether we may act; if so, no lower number may any more
  seen
  [ "$hold" = "$of" ] || [ "$fence" -gt "$highest" ] || return
  [ "$fence" -le "$highest" ] || write_fence
}
write_fence() { # or $unwritten: why it can't be; that keeps nobody from stopping what runs
  unwritten=$(note "$guarded/fence" "$fence $hold $(date +%s) $holder" 2>&1) && unwritten=''
  unwritten=${unwritten##*: }
}
refuse() {
  printf 'fence %s %s %s %s\n' "$highest" "$of" "$when" "$whose" >&2
  exit 76
}
fenced() { # words: does that while nobody else acts here, unless another has taken over
  [ -n "$fence" ] || { "$@"; return; }
  guard
  claim || refuse
  "$@"
  n=$?
  exec 9<&-
  return $n
}
