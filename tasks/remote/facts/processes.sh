# The processes: "PID MARK" of those that have the variable `mark` in their environment, then "==
# programs", "PID PROGRAM", "== processes", "PID PPID PGID KIB COMMAND" and "== end".
: "${mark:?}"
# Of an environment, which may hold secrets, only the mark leaves the node. macOS shows those of the
# user's own processes after the command (ps -E), but of none that the system protects.
if [ -d /proc/self ]; then
  grep -aHosz "^$mark=[0-9A-Za-z.]*" /proc/[0-9]*/environ
else
  ps axwwE -o pid=,command= | sed -n "s/^ *\([0-9]*\) .* \($mark=[0-9A-Za-z.]*\).*/\1 \2/p"
fi 2>/dev/null
if command -v ps >/dev/null; then
  printf '\n== programs\n' && ps axww -o pid=,comm= &&
    echo '== processes' && ps axww -o pid=,ppid=,pgid=,rss=,command= && echo '== end'
else
  # A bare Debian has no ps; /proc tells the same (rss in pages of 4 KiB).
  printf '\n== programs\n'
  for folder in /proc/[0-9]*; do
    printf '%s %s\n' "${folder#/proc/}" "$(tr '\n' ' ' <"$folder/comm" 2>/dev/null)"
  done
  echo '== processes'
  for folder in /proc/[0-9]*; do
    stat=$(cat "$folder/stat" 2>/dev/null) || continue
    set -f
    # shellcheck disable=SC2086 # its fields
    set -- ${stat##*) }
    set +f
    command=$(tr '\000\n' '  ' <"$folder/cmdline" 2>/dev/null)
    printf '%s %s %s %s %s\n' "${folder#/proc/}" "$2" "$3" "$((${22} * 4))" "$command"
  done
  echo '== end'
fi
