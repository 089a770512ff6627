# Raises the number of a hold on the node that gave it, unless another has taken over there; one that
# has seen less than it gave could not write that down (fence.sh).
: "${given:?}"
. ./fence.sh
guard
seen
[ "$hold" = "$of" ] || [ "$highest" -lt "$given" ] || refuse
write_fence
