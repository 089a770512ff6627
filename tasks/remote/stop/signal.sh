# Signals processes that are still those that were seen (by 0 it only looks), then waits for all of
# them to be gone. Its last line is "left" and the pids that are not, before it stands what these
# still hold. After SIGKILL of what has RDMA it leaves the stamp by which the next start knows to wait.
# Its words, by process: whether it is signalled (yes or no), PID, and how it is known: KIND BOOT
# TEXT (start: its boot and start; child: its boot and command line; command: its command line).
: "${signal:?}" "${looks:?}" "${who?}" "${rdma?}"
. ./fence.sh
command_of() { # pid: its command line, blanks made one
  set -f
  # shellcheck disable=SC2046
  if command -v ps >/dev/null; then
    set -- $(LC_ALL=C ps -ww -o command= -p "$1")
  else
    set -- $(tr '\000' ' ' <"/proc/$1/cmdline" 2>/dev/null)
  fi
  printf '%s\n' "$*"
}
is_same() { # pid kind boot text
  case $2 in
  start) is_alive "$1" "$4" "$3" ;;
  child) [ "$3" = "$tp_boot" ] && [ "$(command_of "$1")" = "$4" ] ;;
  command) [ "$(command_of "$1")" = "$4" ] ;;
  *) false ;;
  esac
}
look() { # processes: $left
  left=''
  while [ $# -gt 0 ]; do
    ! is_same "$2" "$3" "$4" "$5" || left="$left $2"
    shift 5
  done
}
send() { # processes: $sent
  sent=''
  while [ $# -gt 0 ]; do
    if [ "$1" = yes ] && is_same "$2" "$3" "$4" "$5"; then
      kill "-$signal" "$2" && sent=1
      # One that was stopped (SIGSTOP) ends as gently as others once it goes on.
      [ "$signal" = KILL ] || kill -CONT "$2"
    fi
    shift 5
  done
}
act() { # processes
  # First: who watches must not start again what is being stopped.
  want_stopped "$who"
  send "$@"
  [ "$signal" != KILL ] || [ -z "$rdma" ] || [ -z "$sent" ] || stamp
}
limited() { perl -e 'alarm shift; exec @ARGV or exit 127' 5 "$@" 2>/dev/null; }
holds() { # pids: what each still holds; on a Mac what is wired, too: it may be ending, and tell no more
  for pid do
    if [ -r "/proc/$pid/statm" ]; then # linux
      read -r _ size _ <"/proc/$pid/statm"
      echo "holds $pid $((size * $(getconf PAGESIZE))) B"
    elif [ ! -d /proc/self ]; then
      limited footprint -p "$pid" | sed -n "s/^.* Footprint: \([0-9.]* [KMGT]*B\) .*/holds $pid \1/p"
    fi
  done
  [ -d /proc/self ] || limited vm_stat
}
fenced act "$@"
# A bounded loop: date has no fractions on macOS, so looks are counted. Each starts a few programs:
# what has not ended within a second is looked at less often.
n=0
look "$@"
while [ -n "$left" ] && [ $n -lt "$looks" ]; do
  if [ $n -lt 20 ]; then pause=0.05 more=1; else pause=0.25 more=5; fi
  sleep $pause
  n=$((n + more))
  look "$@"
done
# shellcheck disable=SC2086 # pids
[ -z "$left" ] || [ "$signal" = KILL ] || holds $left
# On a line of its own, whatever a login shell has said before without ending its line.
printf '\nleft%s\n' "$left"
