# Whether the node's python, started in `cwd`, may connect to a peer: what it says to the program
# `ask`; and whether nc of the system may: "nc 0" if it does.
: "${python:?}" "${cwd?}" "${ask:?}" "${address:?}" "${port:?}"
. ./paths.sh
resolve cwd python
(
  [ -z "$cwd" ] || cd "$cwd" || exit
  "$python" -c "$ask" "peer=$address:$port"
) 2>&1 | sed 's/^peer [^ ]*/python/'
nc=/usr/bin/nc
[ -x "$nc" ] || nc=nc
# Apple's -w limits no connect (netcat.c); that would wait for 75 s, and macOS has no timeout.
if perl -e 'alarm shift; exec @ARGV or exit 127' 5 "$nc" -z -w 3 "$address" "$port" >/dev/null 2>&1
then echo 'nc 0'; else echo 'nc 1'; fi
