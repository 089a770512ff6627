# Before a program of the node's python is asked about a model: where that is (`folder`), in `cwd` as
# its ranks are.
: "${python:?}" "${state_dir:?}"
begun_in=$PWD
. ./facts/enter_model.sh
# shellcheck disable=SC2034 # for what comes after
folder=$PWD
resolve python state_dir
cd "$begun_in" && { [ -z "$cwd" ] || cd "$cwd"; } || exit
case $state_dir in /*) ;; *) state_dir=$begun_in/$state_dir ;; esac
