# Tells what we have put on this node for its user, all clusters' of `state_dir`, and takes it away
# unless that is `dry`: "remove PATH"; "root PATH" of its words, which only root takes away; "left
# STATE_DIR" where it is there, with what is none of ours, by name and by what is in it. While a rank
# lives, or a command is at work, only "busy WHY".
: "${links:?}" "${logs?}" "${begins:?}" "${draft:?}" "${dry?}"
. ./lock/common.sh
own "$state_dir" || exit
resolve logs
each() { # command: it, for each folder of a cluster, which is `here`
  for here in "$state_dir"/*; do
    [ -d "$here" ] && [ ! -L "$here" ] || continue
    lock=$here/lock
    "$@"
  done
}
busy() {
  name=${here##*/}
  ! living "$here"/runs/*/rank-*.pid ||
    printf 'busy rank %s lives (pid %s): inv tp.stop --cluster %s\n' "$number" "$pid" "$name"
  ! is_there || gone || printf 'busy a command is at work: inv tp.unlock --cluster %s\n' "$name"
}
remove() { # paths
  for file do
    [ -e "$file" ] || [ -L "$file" ] || continue
    [ -n "$dry" ] || rm -rf "$file" || exit
    printf 'remove %s\n' "$file"
  done
}
rest() { # folder: it goes, unless more is in it
  [ -n "$dry" ] || rmdir "$1" 2>/dev/null
}
of_cluster() {
  for at in "$here"/runs/[0-9]*T[0-9]*; do
    is_own "$at/record.json" || [ -e "$at/ended" ] || continue
    remove "$at"
  done
  rest "$here/runs"
  wanted
  case $want in running | stopped) remove "$here/wanted" "$here"/wanted.[0-9]* ;; esac
  ! is_own "$lock/holder" || remove "$lock" "$lock".[0-9a-z]*
  remove "$here/fence"
  rest "$here"
}
log() { # path: a known name that leads to what is ours, or a log of ours, a rank's or of all
  if [ -L "$1" ]; then
    case $(readlink "$1") in "$state_dir"/*) remove "$1" ;; esac
  elif is_own "$1" && head -n 1 "$1" | grep -q "^\(rank [0-9]* | \)*$begins"; then
    remove "$1" "${1%/*}/.${1##*/}.positions"
  fi
}
said=$(
  each busy
  ! living "$state_dir"/rank[0-9]*.pid ||
    printf 'busy rank %s lives (pid %s): inv tp.stop\n' "$number" "$pid"
)
[ -z "$said" ] || {
  [ -n "$dry" ] || { printf '%s\n' "$said" >&2; exit 1; }
  printf '%s\nend\n' "$said"
  exit 0
}
for folder in "$links" "$logs"; do
  [ -z "$folder" ] || for file in "$folder"/tp_server*.log*; do log "$file"; done
done
each of_cluster
for name in audit.log audit.log.new baseline sigkill sigkill.new ready last.json "$draft"; do
  ! is_own "$state_dir/$name" || remove "$state_dir/$name"
done
hex='[0-9a-f][0-9a-f][0-9a-f][0-9a-f]'
for at in "$state_dir/models" "$state_dir/verified"; do # what dev.model has found out
  [ ! -L "$at" ] && [ -O "$at" ] || continue
  remove "$at"/$hex$hex$hex$hex*.json "$at"/$hex$hex$hex$hex*.json.[0-9]*
  rest "$at"
done
remove "$state_dir"/rank[0-9]*.json "$state_dir"/rank[0-9]*.pid "$state_dir"/rank[0-9]*.exit
rest "$state_dir"
[ ! -d "$state_dir" ] || printf 'left %s\n' "$state_dir"
for file do
  [ ! -e "$file" ] || printf 'root %s\n' "$file"
done
echo end
