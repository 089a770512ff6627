# Tells the last lines (0: all) of a node's audit log; nothing where nothing was done yet.
: "${state_dir:?}" "${name:?}" "${lines:?}"
. ./paths.sh
resolve state_dir
log=$state_dir/$name
own "$state_dir" || exit
[ -e "$log" ] || [ -L "$log" ] || exit 0
is_own "$log" || { printf '%s is a link or not ours: remove it\n' "$log"; exit 1; }
if [ "$lines" -gt 0 ]; then tail -n "$lines" "$log"; else cat "$log"; fi
