# Tells what is new in the logs of a node's ranks, between marks: where that is over `limit` bytes
# its beginning and its end, half of them each; of a `stream` just the next ones.
# Its words, by log: RANK PATH KEY OFFSET (what was taken of the log whose first line has that key).
# A log is counted by what was ever written: launch/cap.py cuts it, and PATH.older has the part
# before, whose first line tells how many bytes had been cut off before and with it.
: "${nonce:?}" "${limit:?}" "${stream?}"
. ./paths.sh
tell() { # file, bytes of it before, offset, count
  [ "$4" -gt 0 ] || return 0
  printf '\n%s begin %s %s %s\n' "$nonce" "$rank" "$3" "$key"
  tail -c +$(($2 + 1)) "$1" | head -c "$4"
  printf '\n%s end\n' "$nonce"
}
measure() { # $end of all; $base was cut off; $older_begin and $older_end of the part before
  base=0 older_begin=0 older_end=0 word='' from='' to=''
  ! is_own "$path.older" || read -r _ _ word from to <"$path.older"
  case $word$from in part*[!0-9]* | '') ;; part*) base=$from ;; esac
  case $word$to in
  part*[!0-9]* | '') ;; # there is none, or it is being made
  part*)
    base=$to older_begin=$((from + first))
    older_first=$(($(head -n 1 "$path.older" | wc -c)))
    older_end=$((older_begin + $(wc -c <"$path.older") - older_first))
    ;;
  esac
  end=$((base + $(wc -c <"$path")))
}
there() { # what is no more there is passed over
  [ "$offset" -ge "$older_begin" ] || offset=$older_begin
  [ "$offset" -lt "$older_end" ] || [ "$offset" -ge $((base + first)) ] || offset=$((base + first))
}
span() { # from to: of either file
  offset=$1
  if [ "$offset" -lt "$older_end" ]; then
    [ "$2" -lt "$older_end" ] && upto=$2 || upto=$older_end
    tell "$path.older" $((offset - older_begin + older_first)) "$offset" $((upto - offset))
    offset=$upto
  fi
  [ "$offset" -ge "$2" ] || { there && tell "$path" $((offset - base)) "$offset" $(($2 - offset)); }
}
part() { # rank path key offset
  rank=$1 offset=$5
  [ -f "$path" ] || return 0
  # shellcheck disable=SC2046 # a checksum and a size
  set -- "$3 $4" $(head -n 1 "$path" | head -c 4096 | cksum)
  key="$2 $3" first=$3
  [ "$1" = "$key" ] || offset=0
  measure
  if [ "$offset" -gt "$end" ]; then # it was cut: just now, or nothing tells of it
    [ "$to" != - ] || return 0
    offset=$first
  fi
  [ "$offset" -ge "$first" ] || { tell "$path" "$offset" "$offset" $((first - offset)); offset=$first; }
  there
  if [ $((end - offset)) -le "$limit" ]; then
    span "$offset" "$end"
  elif [ -n "$stream" ]; then
    span "$offset" $((offset + limit))
  else
    span "$offset" $((offset + limit / 2))
    span $((end - limit / 2)) "$end"
  fi
}
while [ $# -gt 0 ]; do
  path=$2
  resolve path
  # shellcheck disable=SC2086 # a checksum and a size, or nothing
  part "$1" "$path" ${3:-0 0} "$4"
  shift 4
done
