# Tells the last line of the log of each rank here whose run is not over.
. ./runs.sh
end='
' back=$(printf '\r')
for at in "$here"/runs/*; do
  ! is_open "$at" || for file in "$at"/rank-*.log; do
    number=${file##*/rank-}
    text=$(tail -c 600 "$file")
    text=${text%"$back"} text=${text##*"$end"}
    printf 'line %s %s\n' "${number%.log}" "${text##*"$back"}"
  done
done 2>/dev/null
