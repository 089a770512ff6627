# Notes on rank 0's node that its run (the open one, where none is said) has given a token, and when.
: "${run?}"
. ./runs.sh
for at in "$here"/runs/${run:-*}; do
  is_open "$at" && [ -e "$at/rank-0.pid" ] || continue
  note "$at/token" "$(date +%s)"
done
