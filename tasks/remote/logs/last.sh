# Tells the last line of the log of each rank here whose run is not over.
. ./runs.sh
for at in "$here"/runs/*; do
  ! is_open "$at" || for file in "$at"/rank-*.log; do
    number=${file##*/rank-}
    printf 'line %s ' "${number%.log}"
    tail -c 600 "$file" 2>/dev/null | tr '\r' '\n' | tail -n 1
    echo
  done
done
