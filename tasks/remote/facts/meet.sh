# Whether ranks could meet: what the node's python, started in `cwd`, says to the program `ask` of its
# words; before that the addresses, ours and its own, that this session was opened by.
: "${python:?}" "${cwd?}" "${ask:?}"
. ./paths.sh
resolve cwd python
printf 'session %s\n' "${SSH_CONNECTION:-}"
[ -z "$cwd" ] || cd "$cwd" || exit
"$python" -c "$ask" "$@"
