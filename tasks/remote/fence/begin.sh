# Before a script that changes something: it goes on, alone here, unless another has taken over.
mask=$(umask)
. ./fence.sh
umask "$mask"
[ -z "$fence" ] || { guard; claim || refuse; }
