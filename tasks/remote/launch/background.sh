# Starts a rank, detached, with a log of its own: in the run's folder with a `link` to it, or `log`.
: "${log?}" "${link?}" "${begins:?}" "${header:?}" "${rotate:?}" "${keep:?}"
: "${cap:?}" "${limit:?}" # what keeps a log short, and to how many bytes; 0: as long as it gets
. ./launch/rank.sh
make_way() { # log: what is there is kept if it is a log of ours
  if is_own "$1" && head -n 1 "$1" | grep -q "^$begins"; then
    (
      enter
      "$python" -I -c "$rotate" "$1" "$keep"
    ) </dev/null || exit
  fi
}
resolve log
case $log in
'') log=$base.log ;;
/*) make_way "$log" ;;
*) log=$PWD/$log; make_way "$log" ;;
esac
# Created exclusively: in /tmp another user may have laid a link to elsewhere.
why=$({ mkdir -p "$(dirname "$log")" && rm -f "$log" "$log.older" &&
  (set -C; printf '%s\n' "$header" >"$log"); } 2>&1) && is_own "$log" || {
  why=${why##*: }
  case $why in *space* | *ead-only*) whose='' ;; *) whose=" is it another user's?" ;; esac
  printf "can't write the log %s%s:%s choose another --log-dir\n" \
    "$log" "${why:+ ($why)}" "$whose" >&2
  exit 1
}
put "$cap" cap.py || exit
keep_short() { # beside the rank, whose end it sees
  [ "$limit" = 0 ] || "$python" -I "$at/cap.py" "$log" "$limit" "$base.exit" "$pid" </dev/null &
}
[ "$log" = "$base.log" ] || ln -s "$log" "$base.log"
# A name that is known leads to it, unless another user has taken that.
[ -z "$link" ] || { make_way "$link"; rm -f "$link" && ln -s "$log" "$link"; } 2>/dev/null
begin() { # words: as of `start`
  [ ! -e "$at/ended" ] || {
    echo "rank $rank was stopped before it had started" >&2
    exit 1
  }
  (
    enter
    (
      # By exec: of a redirection of the whole some shells (mksh, yash) keep the old ends open in here,
      # and whoever reads what this script says would wait for the rank's end.
      exec </dev/null >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&-
      trap '' HUP INT QUIT
      start "$@"
    ) &
  ) || exit
  n=0
  until [ -f "$base.pid" ]; do
    n=$((n + 1))
    [ $n -lt 100 ] || { echo "the rank was not started" >&2; exit 1; }
    sleep 0.05
  done
}
fenced begin "$@"
