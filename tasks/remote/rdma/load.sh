# Has root load a LaunchDaemon, its words, and says so; ends here if that fails. launchd that has
# only just let go of it answers 5 or 36 for a moment: then it is asked again.
. ./sudo/root.sh
n=0
until said=$(root "$@" 2>&1); do
  status=$?
  case $status,$n in 5,10 | 36,10) ;; 5,* | 36,*) n=$((n + 1)); sleep 1; continue ;; esac
  printf '%s\n' "$said" >&2
  exit "$status"
done
echo 'done'
