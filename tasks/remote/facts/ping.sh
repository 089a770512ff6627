# Pings addresses, its words, all at once: by address "ping IP", what ping said, "status N". macOS
# counts `-W` in ms and Linux in s, and neither has `timeout` in common: so the limit is perl's.
: "${limit:?}" "${count:?}"
folder=$(mktemp -d) || exit
for ip do
  {
    perl -e 'alarm shift; exec @ARGV or exit 127' "$limit" ping -n -c "$count" -i 0.2 "$ip"
    echo "status $?"
  } >"$folder/$ip" 2>&1 &
done
wait
for file in "$folder"/*; do
  printf 'ping %s\n' "${file##*/}"
  cat "$file"
done
rm -r "$folder"
