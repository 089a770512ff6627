# Has root load a LaunchDaemon, its words, and says so; ends here if that fails. launchd that has
# only just let go of it answers 5 or 36 for a moment: then it is asked again.
. ./sudo/root.sh
n=0
until root "$@" >/dev/null; do
  status=$?
  case $status in 5 | 36) ;; *) exit "$status" ;; esac
  [ "$n" -lt 10 ] || exit "$status"
  n=$((n + 1))
  sleep 1
done
echo 'done'
