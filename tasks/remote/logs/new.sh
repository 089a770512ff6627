# Tells what is new in the logs of a node's ranks, of each at most `limit` bytes, between marks.
# Its words, by log: RANK PATH KEY OFFSET (what was taken of the log whose first line has that key).
: "${nonce:?}" "${limit:?}"
. ./paths.sh
part() { # rank path key offset
  [ -f "$2" ] || return 0
  # shellcheck disable=SC2046 # a checksum and a size
  set -- "$@" $(head -n 1 "$2" | cksum)
  [ "$3" = "$5 $6" ] || set -- "$1" "$2" "$3" 0 "$5" "$6"
  printf '\n%s begin %s %s %s\n' "$nonce" "$1" "$4" "$5 $6"
  tail -c +$(($4 + 1)) "$2" | head -c "$limit"
  printf '\n%s end\n' "$nonce"
}
while [ $# -gt 0 ]; do
  path=$2
  resolve path
  part "$1" "$path" "$3" "$4"
  shift 4
done
