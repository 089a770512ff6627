# Removes a cluster's lock, whoever has it, and tells who had it.
. ./lock/common.sh
unlock() {
  gone
  was=$(line was)
  remove unlock.$$ && printf '\n%s\n' "$was"
}
own "$state_dir" && own "$here" || exit
is_there || exit 0
fenced alone unlock
