# Signals processes that are still those that were seen, then waits for all of them to be gone. Its
# last line is "left" and the pids that are not. After SIGKILL it leaves the stamp by which the next
# start knows to wait.
# Its words, by process: whether it is signalled (yes or no), PID, and how it is known: KIND BOOT
# TEXT (start: its boot and start; child: its boot and command line; command: its command line).
: "${signal:?}" "${looks:?}" "${who?}"
. ./fence.sh
command_of() { # pid: its command line, blanks made one
  set -f
  # shellcheck disable=SC2046
  if command -v ps >/dev/null; then
    set -- $(LC_ALL=C ps axww -o pid=,command= | sed -n "s/^ *$1 //p")
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
  [ "$signal" = KILL ] || return 0
  own "$state_dir" && mkdir -p "$state_dir" && chmod 700 "$state_dir" && [ -n "$sent" ] || return 0
  rm -rf "$state_dir/sigkill.new"
  printf '%s %s\n' "$(date +%s)" "$tp_boot" >"$state_dir/sigkill.new" &&
    mv "$state_dir/sigkill.new" "$state_dir/sigkill"
}
fenced act "$@"
# A bounded loop: date has no fractions on macOS, so looks are counted.
n=0
look "$@"
while [ -n "$left" ] && [ $n -lt "$looks" ]; do
  sleep 0.05
  n=$((n + 1))
  look "$@"
done
echo "left$left"
