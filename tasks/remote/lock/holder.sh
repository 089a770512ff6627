# Tells who has a cluster's lock, if anybody has.
. ./lock/common.sh
own "$state_dir" && own "$here" || exit
is_there || exit 0
gone
line was
