# Prints a block per interval of how this node does, until ranks come or go, or nobody reads. Cheap:
# from /proc on Linux; on macOS `iostat` is the pause and tells the CPU of it (top would look at every
# process). Its words: the interfaces of the links. `pids` are apart by blanks; `port` (as `hex`, too)
# and `log` are rank 0's, where it runs here.
: "${log?}" "${port?}" "${hex?}" "${pids?}" "${interval:?}" "${blocks:?}" "${nonce:?}"
LC_ALL=C
export LC_ALL
. ./runs.sh
resolve log
ranks() { cat "$here"/runs/*/rank-*.pid "$old"/rank*.pid; echo "$here"/runs/*/ended; }
seen=$(ranks 2>/dev/null) posts=0 size=0 busy='' hz='' total='' told=0
request='"[A-Z][A-Z]* /[^"]*" [0-9]'
[ -z "$log" ] || {
  size=$(wc -c 2>/dev/null <"$log")
  told=$(head -c 1000000 "$log" 2>/dev/null | grep -c "$request")
}
# A host of the rig has a Linux's /proc, and a Mac's memory.
if [ -r /proc/stat ]; then
  files='/proc/uptime /proc/net/dev'
  for pid in $pids; do files="$files /proc/$pid/stat"; done
  hz=$(getconf CLK_TCK)
  look() { # interfaces
    read -r cpu </proc/stat
    printf 'hz %s\n%s\n' "${hz:-100}" "$cpu"
    # shellcheck disable=SC2086 # several
    cat $files
    for link do
      carrier=''
      # Reading it fails for an interface that is off.
      [ ! -e "/sys/class/net/$link" ] || {
        read -r carrier <"/sys/class/net/$link/carrier"
        printf 'carrier %s %s\n' "$link" "${carrier:-0}"
      }
    done
    # With a second file grep names each.
    [ -z "$port" ] ||
      grep -c "^ *[0-9]*: [0-9A-F]*:$hex [0-9A-F:]* 01 " /dev/null /proc/net/tcp*
  }
  pause() { sleep "$interval"; }
else
  listed=''
  for pid in $pids; do listed=${listed:+$listed,}$pid; done
  look() { # interfaces
    [ -z "$busy" ] || printf 'iostat %s\n' "$busy"
    netstat -ibn
    for link do
      printf 'ifconfig %s\n' "$link"
      ifconfig "$link"
    done
    [ -z "$listed" ] || ps -o pid=,time=,rss= -p "$listed" | sed 's/^/ps /'
    [ -z "$port" ] || {
      clients=$(netstat -an -p tcp | grep "^tcp.*[.]$port .*ESTABLISHED" |
        grep -c "^tcp[^ ]* *[0-9]* *[0-9]* *[^ ]*[.]$port .*ESTABLISHED")
      printf 'clients %s\n' "$clients"
    }
  }
  pause() {
    busy=$(iostat -n 0 -c 2 -w "$interval" | tail -n 1)
    [ -n "$busy" ] || sleep "$interval"
  }
fi
if command -v vm_stat >/dev/null; then
  total=$(sysctl -n hw.memsize)
  wired() {
    printf '%s\n' "$total"
    vm_stat
  }
else
  wired() { cat /proc/meminfo; }
fi
requests() {
  [ -n "$log" ] && now=$(wc -c <"$log") || return
  if [ "$now" -gt "${size:-0}" ]; then
    from=$((${size:-0} + 1))
    [ "${told:-0}" -gt 0 ] || told=$(tail -c "+$from" "$log" | grep -c "$request")
    posts=$((posts + $(tail -c "+$from" "$log" | grep -c '"POST /[^"]*" [0-9]')))
  fi
  size=$now
  # A server whose access log is off tells nothing of requests: that its log has none is no count.
  [ "${told:-0}" -eq 0 ] || printf 'posts %s\n' "$posts"
}
count=0
while [ $count -lt "$blocks" ]; do
  printf '\n%s begin\n== memory\n' "$nonce"
  wired
  echo '== more'
  look "$@"
  requests
  printf '\n%s end\n' "$nonce"
  pause
  [ "$(ranks)" = "$seen" ] || exit 0
  count=$((count + 1))
done </dev/null 2>/dev/null
