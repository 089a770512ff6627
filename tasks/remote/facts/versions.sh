# The system's build, then what the node's python, started in `cwd`, says to the program `ask`.
: "${python:?}" "${cwd?}" "${ask:?}" "${backend?}"
. ./paths.sh
if command -v sw_vers >/dev/null; then sw_vers -buildVersion; else uname -r; fi
resolve cwd python
[ -z "$cwd" ] || cd "$cwd" || exit
"$python" -c "$ask" "$backend" || exit 1
