# Notes that a run (each, where none is said) is over on this node, where no rank of it lives.
: "${run?}" "${who?}" "${keep?}"
. ./fence.sh
forget() {
  # A script that was held up may come later: it finds that its run is over.
  [ -z "$run" ] || ! own "$here" || mkdir -p "$here/runs/$run" 2>/dev/null
  for at in "$here/runs"/${run:-*}; do
    # A script that was held up may have started a rank meanwhile.
    is_open "$at" && ! living "$at"/rank-*.pid && : >"$at/ended" && rm -f "$at"/rank-*.MLX_*
  done
  # What a person has stopped is not to be started again with what they gave.
  [ -n "$keep" ] || rm -rf "$here/runs"/${run:-*}/rank-*.env
  wanted
  [ -n "$run" ] && [ "$run" != "$want_run" ] || want_stopped "$who"
  [ -n "$run" ] || living "$old"/rank[0-9]*.pid || forget_old
}
fenced forget
