# Tells the last line of each log. Its words, by log: RANK PATH.
. ./paths.sh
while [ $# -gt 0 ]; do
  path=$2
  resolve path
  printf 'line %s ' "$1"
  tail -c 600 "$path" 2>/dev/null | tr '\r' '\n' | tail -n 1
  echo
  shift 2
done
