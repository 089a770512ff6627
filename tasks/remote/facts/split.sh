# What the node's python, started in `cwd` as its rank is, says of the model to the program `ask`: by
# how many ranks it can be divided, and what its files say. The program `kept` knows its last answer.
: "${ask:?}" "${kept:?}" "${seconds:?}"
. ./facts/ask_model.sh
# macOS has no `timeout`.
exec perl -e 'alarm shift; exec @ARGV or exit 127' \
  "$seconds" "$python" -c "$kept" "$ask" "$folder" "$state_dir" "$@"
