# Keeps the ends of this host's links as setup made them. launchd starts it as root at boot and every
# few minutes. macOS applies its stored bridges again some time after the boot, so while that is
# fresh it looks again every few seconds.
# It takes a port out of a bridge, adds an address that is missing and writes MLX's matrix. It never
# replaces an address: set twice in one boot, it makes GID tables stale. It changes nothing while a
# rank lives here. It logs what it did or left, once for each state.
# Its words, by end of a link: INTERFACE IP NETMASK.
: "${ifconfig:?}" "${log:?}" "${log_bytes:?}" "${every:?}" "${looks:?}" "${fresh:?}"
. ./ranks.sh
. ./rdma/write_matrix.sh
PATH=/usr/bin:/bin:/usr/sbin:/sbin
export PATH
umask 022
line='
'
tell() { # what this look did or left
  told="$told${told:+; }$1"
}
mend() { # what, and the command that does it: unless a rank lives
  what=$1
  shift
  lives=$(rank 2>/dev/null)
  if [ -n "$lives" ]; then
    tell "left while rank $lives lives: $what"
  elif said=$("$@" 2>&1); then
    tell "$what"
  else
    tell "failed: $what: ${said%%"$line"*}"
  fi
}
look_at() { # interface ip netmask
  shown=$("$ifconfig" "$1" 2>/dev/null) || { tell "there is no $1"; return; }
  for bridge in $("$ifconfig" -l); do
    case $bridge in
    bridge*)
      "$ifconfig" "$bridge" | grep -q "member: $1 " &&
        mend "take $1 out of $bridge" "$ifconfig" "$bridge" deletem "$1"
      ;;
    esac
  done
  has=$(printf '%s\n' "$shown" | sed -n 's/^[[:space:]]*inet \([0-9.]*\) .*/\1/p' | head -n 1)
  case $has in
  "$2") ;;
  # With `alias` no address is replaced, even one that has come since we looked.
  '') mend "give $1 $2" "$ifconfig" "$1" inet "$2" netmask "$3" alias ;;
  *) tell "left: $1 has $has, not $2" ;;
  esac
}
look() { # ends of links
  told=''
  while [ $# -gt 0 ]; do
    look_at "$1" "$2" "$3"
    shift 3
  done
  # A pipe would never end, a link may lead anywhere.
  if [ -n "$matrix" ] &&
    { [ ! -f "$file" ] || [ -L "$file" ] || [ "$(head -c 65536 "$file")" != "$matrix" ]; }; then
    mend "write $file" write_matrix
  fi
  say "${told:-as wanted}"
}
say() { # text: a line of the log, unless it is what the last one says
  last=$(tail -n 1 "$log" 2>/dev/null)
  [ "${last#* * }" != "$1" ] || return 0
  if [ -f "$log" ] && [ "$(wc -c <"$log")" -gt "$log_bytes" ]; then
    tail -n 100 "$log" >"$log.new" && mv -f "$log.new" "$log"
  fi
  printf '%s %s\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$1" >>"$log"
}
now=$(date +%s)
booted=$(sysctl -n kern.boottime 2>/dev/null | sed 's/^{ sec = \([0-9]*\),.*/\1/')
# Where the boot can't be known, it is taken for fresh.
[ $((now - ${booted:-now})) -lt "$fresh" ] || looks=1
n=1
look "$@"
while [ "$n" -lt "$looks" ]; do
  n=$((n + 1))
  sleep "$every"
  look "$@"
done
