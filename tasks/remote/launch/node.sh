# Before ranks start on a node: the state directory, ours alone, and in it this boot's baseline.
: "${state_dir:?}"
. ./prelude.sh
umask 077
resolve state_dir
own "$state_dir" && mkdir -p "$state_dir" && own "$state_dir" && chmod 700 "$state_dir" || exit
state_dir=$(cd "$state_dir" && pwd)
# What is wired before this boot's first start. Ranks of one node, and starts at one time, may all
# write it: each from a file of its own.
[ "$(head -n 1 "$state_dir/baseline" 2>/dev/null)" = "$tp_boot" ] || {
  {
    printf '%s\n' "$tp_boot"
    (
      . ./facts/memory.sh
    )
  } >"$state_dir/baseline.$$" 2>/dev/null && mv "$state_dir/baseline.$$" "$state_dir/baseline"
}
