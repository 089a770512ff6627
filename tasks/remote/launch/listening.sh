# Waits until rank 0 listens, seen with lsof: a connection would be taken for a rank.
: "${port:?}" "${looks:?}"
. ./launch/node.sh
recorded "$at/rank-0.pid"
n=0
while [ $n -lt "$looks" ] && is_alive "$pid" "$start" "$boot"; do
  lsof -nP -a -p "$pid" -iTCP:"$port" -sTCP:LISTEN >/dev/null 2>&1 && break
  n=$((n + 1))
  sleep 0.2
done
