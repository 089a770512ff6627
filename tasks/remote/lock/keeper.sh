# Takes a cluster's lock, or says who has it, and removes it when its stdin ends. How long it has had
# no beat is counted here, by seconds slept: no clock that can be set decides whether a holder lives.
: "${token:?}" "${wait:?}" "${what:?}" "${who:?}"
. ./lock/common.sh
is_mine() {
  key=''
  { read -r key; } 2>/dev/null <"$lock/holder"
  [ "$key" = "$token" ]
}
beat() { # `beat` is for versions before this one
  echo 0 >"$lock/quiet.new" && mv "$lock/quiet.new" "$lock/quiet" &&
    date +%s >"$lock/beat.new" && mv "$lock/beat.new" "$lock/beat"
}
count() { # seconds since the last beat
  while sleep 1 && is_mine && kill -0 $$; do
    quiet=''
    read -r quiet <"$lock/quiet"
    echo $((quiet + 1)) >"$lock/quiet.old" && mv "$lock/quiet.old" "$lock/quiet"
  done
}
make() {
  mkdir "$lock" && beat &&
    printf '%s\n' "$token" $$ "$mine" "$tp_boot" "$(date +%s)" "$what" "$who" >"$lock/holder" &&
    return
  rm -rf "$lock"
  return 1
}
make_home() { own "$1" && mkdir -p "$1" && chmod 700 "$1"; }
take() {
  if is_there; then
    gone && broke=$(line broke) && said=$(remove "$token" 2>&1) || return 1
    printf '%s\n' "$broke"
  fi
  said=$(make 2>&1)
}
number() { # of this hold: one more than the highest that was seen here
  guard
  seen
  fence=$((highest + 1))
  write_fence
  echo "$fence"
}
release() { is_mine && remove "$token"; }
trap '' HUP INT QUIT TERM
look_up $$
mine=$began failed=0 told='' left=$((wait * 3))
echo # ends what a login shell may have begun
while :; do
  if is_there && ! gone; then
    [ $left -gt 0 ] || { line refused; exit 0; }
    left=$((left - 1))
    [ -n "$told" ] || { line busy; told=1; }
    # Words that nobody reads end this shell, once its control machine is gone.
    failed=0
    sleep 0.3
    echo .
    continue
  fi
  said=$({ make_home "$state_dir" && make_home "$here"; } 2>&1) && alone take && break
  # Without a word another command was faster, as each of many may be.
  [ -z "$said" ] || failed=$((failed + 19))
  failed=$((failed + 1))
  sleep 0.1
  [ $failed -lt 100 ] || { printf 'error %s\n' "${said:-$lock can not be made}"; exit 1; }
done
# From here on no word that nobody reads ends it with the lock in place.
trap '' PIPE
fence=$(number) || { alone release; exit 1; }
(
  exec </dev/null >/dev/null 2>&1
  count
) &
# In braces, so that it is read before it runs: what follows in its stdin is for `read` alone.
{
  printf 'held\t%s\n' "$fence" 2>/dev/null
  while read -r _; do
    is_mine || { echo lost; exit 0; }
    beat
  done 2>/dev/null
  alone release
  rmdir "$here" "$state_dir" 2>/dev/null
  exit 0
}
