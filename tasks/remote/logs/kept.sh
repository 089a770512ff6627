# Tells the folder of a node's logs, then of each log its name and, after a tab, its first line.
: "${folder?}"
. ./paths.sh
resolve folder
cd "$folder" || exit
pwd
for file in tp_server.rank*.log tp_server.rank*.log.[0-9]*; do
  is_own "$file" || continue
  printf '%s\t%s\n' "$file" "$(head -n 1 "$file" | head -c 1000)"
done
