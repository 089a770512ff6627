# How long logs are, and how they begin: rows "log RANK BYTES LINE" of those that are there, then
# "end". Its words, by log: RANK PATH.
. ./paths.sh
while [ $# -gt 0 ]; do
  path=$2
  resolve path
  if [ -f "$path" ]; then
    printf 'log %s %s ' "$1" "$(wc -c <"$path")"
    head -n 1 "$path" | head -c 400
    echo
  fi
  shift 2
done
echo end
