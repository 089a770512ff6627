# Raises the number of a hold on the node that gave it, unless another has taken over there.
. ./fence.sh
guard
seen
[ "$hold" = "$of" ] || refuse
write_fence
