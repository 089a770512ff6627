# What the node's python, started in `cwd` as its rank is, says of the model to the program `ask`: by
# how many ranks it can be divided, and what its files say. `key` tells one such program from another.
: "${python:?}" "${ask:?}" "${key:?}" "${state_dir:?}" "${seconds:?}"
begun_in=$PWD
. ./facts/enter_model.sh
folder=$PWD
resolve python state_dir
cd "$begun_in" && { [ -z "$cwd" ] || cd "$cwd"; } || exit
case $state_dir in /*) ;; *) state_dir=$begun_in/$state_dir ;; esac
# macOS has no `timeout`.
exec perl -e 'alarm shift; exec @ARGV or exit 127' \
  "$seconds" "$python" -c "$ask" "$key" "$folder" "$state_dir" "$@"
