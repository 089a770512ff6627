# Tells all that is known of a cluster on this node; a folder that is not there is an empty state.
. ./fence.sh
printf 'now %s\nboot %s\nat %s\nold %s\n' "$(date +%s)" "$tp_boot" "$here" "$old"
# One that is there but is not ours, or can't be entered, is no empty state.
for folder in "$state_dir" "$here"; do
  own "$folder" && { [ ! -e "$folder" ] || [ -x "$folder" ] || (cd "$folder"); } || exit
done
# Who has the cluster says so to each node with the first question: none lets others act from then on.
[ -z "$fence" ] || { seen; [ "$hold" = "$of" ] && [ "$fence" -le "$highest" ]; } || {
  guard
  claim
  exec 9<&-
}
# A shell's own `read`: what is asked every second should start few programs.
line() { # word file: the word and the file's first line
  line=''
  is_own "$2" && { read -r line <"$2"; printf '%s %s\n' "$1" "$line"; }
}
text() { # word file: the word and the file in one line
  is_own "$2" && { printf '%s ' "$1"; head -c 262144 "$2" | tr -d '\n\000'; echo; }
}
booted() { # since when the node is up, in seconds since the epoch
  if [ -r /proc/uptime ]; then
    read -r up _ </proc/uptime
    echo $(($(date +%s) - ${up%%.*}))
  else
    sysctl -n kern.boottime | sed 's/.*{ sec = \([0-9]*\).*/\1/'
  fi
}
rank() { # number, base: what is known of the rank whose files begin so
  printf 'rank %s\n' "$1"
  recorded "$2.pid"
  case $pid in
  '' | *[!0-9]*) return ;;
  esac
  printf 'pid %s\nstart %s\nof %s\n' "$pid" "$start" "$boot"
  if is_alive "$pid" "$start" "$boot"; then
    echo alive
    case $does in [Tt]*) echo suspended ;; esac
  elif [ "$boot" = "$tp_boot" ]; then
    # The shell that waits for a rank writes its exit status a moment after its death.
    n=0
    until is_own "$2.exit" || [ $n -ge 5 ]; do
      n=$((n + 1))
      sleep 0.1
    done
  else
    printf 'booted %s\n' "$(booted)"
  fi
  line exit "$2.exit"
  is_own "$2.marks" || return
  loading=''
  while read -r mark; do # of those that come each second the last one is enough
    case $mark in loading*) loading=$mark ;; *) printf 'mark %s\n' "$mark" ;; esac
  done <"$2.marks"
  [ -z "$loading" ] || printf 'mark %s\n' "$loading"
}
[ -z "$unwritten" ] || printf 'unwritten %s\n' "$unwritten"
{
  seen
  [ -z "$of" ] || printf 'fence %s %s %s %s\n' "$highest" "$of" "$when" "$whose"
  wanted
  [ -z "$want" ] || printf 'wanted %s %s %s %s\n' "$want" "$want_run" "$since" "$by"
  line sigkill "$state_dir/sigkill"
  is_own "$state_dir/baseline" && head -c 65536 "$state_dir/baseline" | sed 's/^/baseline /'
  for at in "$state_dir"/*/runs/*; do # of another cluster only that it is there: it is left alone
    case $at in "$here"/*) ;; *) ! is_open "$at" || printf 'other %s\n' "${at##*/}" ;; esac
  done
  for at in "$here"/runs/*; do
    if is_open "$at"; then
      kind=run
    elif [ -n "$want_run" ] && [ "$at" = "$here/runs/$want_run" ]; then
      kind=ended # for what is to be started again, and its logs
    else
      continue
    fi
    printf '%s %s\n' "$kind" "${at##*/}"
    text record "$at/record.json"
    line token "$at/token"
    [ $kind = ended ] || for file in "$at"/rank-*.pid; do
      is_own "$file" || continue
      file=${file%.pid}
      rank "${file##*/rank-}" "$file"
    done
  done
  for file in "$old"/rank[0-9]*.json; do
    is_own "$file" || continue
    file=${file%.json}
    printf 'old\n'
    text record "$file.json"
    line token "$old/ready"
    rank "${file##*/rank}" "$file"
  done
  [ -n "$want" ] || ! is_own "$old/last.json" || { echo last; text record "$old/last.json"; }
} 2>/dev/null
echo end
