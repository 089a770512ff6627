# Starts a rank whose output is this script's own, and ends as it does.
. ./launch/rank.sh
log=''
enter
trap '' HUP INT QUIT
fenced start "$@"
exit $code
