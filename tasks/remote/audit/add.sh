# Adds a line to a node's audit log; one that has grown too long is cut to the last half of it.
: "${state_dir:?}" "${name:?}" "${line:?}" "${limit:?}"
. ./paths.sh
umask 077
resolve state_dir
log=$state_dir/$name
own "$state_dir" || exit
is_own "$log" || rm -rf "$log"
add() { mkdir -p "$state_dir" && chmod 700 "$state_dir" && printf '%s\n' "$line" >>"$log"; }
# The directory may just be removed by a lock that is given back.
add 2>/dev/null || add 2>/dev/null || add || exit
chmod 600 "$log"
[ $(($(wc -c <"$log"))) -le "$limit" ] || {
  rm -rf "$log.new"
  tail -c $((limit / 2)) "$log" | sed 1d >"$log.new" && mv "$log.new" "$log"
}
