# Starts a rank, detached, with a log of its own.
: "${log:?}" "${begins:?}" "${header:?}" "${rotate:?}" "${keep:?}"
. ./launch/rank.sh
resolve log
case $log in /*) ;; *) log=$PWD/$log ;; esac
# What is there is kept if it is a log of ours.
if is_own "$log" && head -n 1 "$log" | grep -q "^$begins"; then
  (
    enter
    "$python" -I -c "$rotate" "$log" "$keep"
  ) </dev/null || exit
fi
# Created exclusively: in /tmp another user may have laid a link to elsewhere.
if ! {
  mkdir -p "$(dirname "$log")" && rm -f "$log" &&
    (set -C; printf '%s\n' "$header" >"$log") && is_own "$log"
}; then
  printf "can't write the log %s: is it another user's? choose another --log-dir\n" "$log" >&2
  exit 1
fi
# A script that was held up starts no rank once its run has been stopped and forgotten.
grep -q "\"run\": \"$run\"" "$base.json" 2>/dev/null || {
  echo "rank $rank was stopped before it had started" >&2
  exit 1
}
(
  enter
  (
    # By exec: of a redirection of the whole some shells (mksh, yash) keep the old ends open in here,
    # and whoever reads what this script says would wait for the rank's end.
    exec </dev/null >/dev/null 2>&1
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
