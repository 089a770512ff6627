# Whether the node's python, started in `cwd`, may connect to a peer: what it says to the program
# `ask`; and whether nc of the system may: "nc 0" if it does.
: "${python:?}" "${cwd?}" "${ask:?}" "${address:?}" "${port:?}"
. ./paths.sh
resolve cwd python
(
  [ -z "$cwd" ] || cd "$cwd" || exit
  "$python" -c "$ask" "$address" "$port"
) 2>&1
nc=/usr/bin/nc
[ -x "$nc" ] || nc=nc
"$nc" -z -w 3 "$address" "$port" >/dev/null 2>&1
echo "nc $?"
