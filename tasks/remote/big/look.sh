# Tells of each rank of the newest run on this node: its pid, whether it lives, how many bytes it has
# read (Linux: /proc tells that), and its marks.
. ./runs.sh
newest
for run in $runs; do
  printf 'run %s\n' "$run"
  for file in "$here/runs/$run"/rank-*.pid; do
    [ -e "$file" ] || break
    recorded "$file"
    base=${file%.pid} lives=0 bytes=''
    ! is_alive "${pid:-0}" "$start" "$boot" || lives=1
    { read -r _ bytes <"/proc/$pid/io"; } 2>/dev/null
    printf 'rank %s %s %s %s\n' "${base##*/rank-}" "${pid:-0}" "$lives" "${bytes:--}"
    sed 's/^/mark /' "$base.marks" 2>/dev/null
  done
  break
done
