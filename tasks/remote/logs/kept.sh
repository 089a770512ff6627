# Tells of each log on this node its path and, after a tab, its first line: those of the runs, the
# newest first, then those that are named by rank and age in `folder`.
: "${folder?}"
. ./runs.sh
resolve folder
tell() { # paths
  for path do
    is_own "$path" && printf '%s\t%s\n' "$path" "$(head -n 1 "$path" | head -c 1000)"
  done
}
newest
echo # ends what a login shell may have begun
for run in $runs; do
  tell "$here/runs/$run"/rank-*.log
done
cd "$folder" && tell "$PWD"/tp_server.rank*.log "$PWD"/tp_server.rank*.log.[0-9]*
:
