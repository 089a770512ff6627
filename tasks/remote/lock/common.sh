# How a cluster's lock stands, for what takes it and for what removes it.
: "${silence:?}"
. ./fence.sh
lock=$here/lock
# Whoever makes or removes the lock has `lock.busy` meanwhile, and only then knows how it stands:
# of two who both saw a dead holder, the second would else remove the living one of the first. It
# is had for a moment only, so one that stays is nobody's.
alone() { # words: does that while nobody else makes or removes the lock
  n=0
  until mkdir "$lock.busy" 2>/dev/null || [ $n -ge 100 ]; do
    n=$((n + 1))
    sleep 0.1
    [ -e "$lock.busy" ] || n=$((n + 20)) # maybe nothing can be made there
  done
  "$@"
  n=$?
  rmdir "$lock.busy" 2>/dev/null
  return $n
}
is_there() { [ -e "$lock" ] || [ -L "$lock" ]; }
gone() { # whether the lock's holder is gone; $why
  key='' pid='' start='' boot='' beat='' quiet='' why=''
  { read -r key; read -r pid; read -r start; read -r boot; } 2>/dev/null <"$lock/holder"
  { read -r beat; } 2>/dev/null <"$lock/beat"
  { read -r quiet; } 2>/dev/null <"$lock/quiet"
  case $beat in '' | 0* | *[!0-9]* | ????????????*) why=damaged ;; esac
  [ -n "$key" ] && [ -n "$start" ] && [ -n "$boot" ] || why=damaged
  [ -z "$why" ] || return 0
  if [ "$boot" != "$tp_boot" ]; then
    why=rebooted
  elif ! is_alive "$pid" "$start" "$boot"; then
    why=ended
  else
    # A keeper of before counted nothing: there the clock must tell.
    case $quiet in '' | *[!0-9]* | ????????????*) quiet=$(($(date +%s) - beat)) ;; esac
    [ "$quiet" -le "$silence" ] || why="silent $quiet"
  fi
  [ -n "$why" ]
}
line() { # word: it, the time, why the holder is gone, the holder (`holder` is who we are: fence.sh)
  known=$({ head -c 2000 "$lock/holder" | tr -d '\000' | tr '\n' '\t'; } 2>/dev/null)
  printf '%s\t%s\t%s\t%s\n' "$1" "$(date +%s)" "$why" "$known"
}
remove() { # token: by which no two rename it to the same name
  mv "$lock" "$lock.$1" && rm -rf "$lock.$1"
}
