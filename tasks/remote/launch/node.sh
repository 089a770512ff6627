# Before ranks of a run start on a node: its folder, ours alone, with the record of them; what it
# takes the place of is over.
: "${run:?}" "${record:?}" "${who?}" "${already:?}" "${keep_runs:?}" "${spare?}"
: "${entry?}" "${served?}" "${score?}"
. ./fence.sh
at=$here/runs/$run
# A rank that still lives is never forgotten, whatever checks were skipped.
over() { # pid files
  ! living "$@" || {
    printf 'rank %s already runs (pid %s): inv tp.stop\n' "$number" "$pid" >&2
    exit "$already"
  }
}
put() { # text name: in the run's folder, whole: another rank of this node may be reading it now
  printf '%s\n' "$1" >"$at/$2.$$" && mv "$at/$2.$$" "$at/$2"
}
enrol() {
  for folder in "$state_dir" "$here" "$here/runs" "$at"; do
    own "$folder" && mkdir -p "$folder" && own "$folder" && chmod 700 "$folder" || exit
  done
  for other in "$here"/runs/*; do
    [ "$other" = "$at" ] || ! is_open "$other" || { over "$other"/rank-*.pid && : >"$other/ended"; }
  done
  over "$old"/rank[0-9]*.pid
  # A script that was held up starts no rank once its run has been stopped.
  [ ! -e "$at/ended" ] || {
    echo "the run was stopped before it had started here" >&2
    exit 1
  }
  forget_old "$old/last.json"
  put "$record" record.json || exit
  [ -z "$entry" ] || put "$entry" entry.py || exit
  [ -z "$served" ] || put "$served" served.py || exit
  [ -z "$score" ] || put "$score" score.py || exit
  want running "$run" "$who" || exit
  # Earlier runs go, but for the newest (names begin with the time) and one whose values are used.
  n=0
  for other in "$here"/runs/*; do
    [ ! -e "$other/ended" ] || n=$((n + 1))
  done
  for other in "$here"/runs/*; do
    [ -e "$other/ended" ] || continue
    [ $n -le "$keep_runs" ] || [ "$other" = "$here/runs/$spare" ] || printf '%s\0' "$other"
    n=$((n - 1))
  done | xargs -0 rm -rf
}
fenced enrol
# What is wired before this boot's first start. Ranks of one node, and starts at one time, may all
# write it: each from a file of its own.
[ "$(head -n 1 "$state_dir/baseline" 2>/dev/null)" = "$tp_boot" ] || {
  {
    printf '%s\n' "$tp_boot"
    (
      . ./facts/memory.sh
    )
  } >"$state_dir/baseline.$$" 2>/dev/null && mv "$state_dir/baseline.$$" "$state_dir/baseline"
}
