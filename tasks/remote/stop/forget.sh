# Removes a node's records (of a run; all where it is empty) of ranks that live no more.
: "${state_dir:?}" "${run?}"
. ./prelude.sh
resolve state_dir
cd "$state_dir" 2>/dev/null || exit 0
lives=''
for file in rank[0-9]*.json; do
  [ -z "$run" ] || grep -qF -e "\"run\": \"$run" "$file" 2>/dev/null || continue
  file=${file%.json}
  recorded "$file.pid"
  # A script that was held up may have started it meanwhile.
  if is_alive "${pid:-0}" "$start" "$boot"; then
    lives=1
    continue
  fi
  rm -f "$file.json" "$file".pid* "$file".exit* "$file".MLX_*
done
[ -n "$run" ] || [ -n "$lives" ] || rm -f rank[0-9]* ready ready.new
