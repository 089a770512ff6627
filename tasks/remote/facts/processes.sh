# The processes: "PID MARK" of those that have the variable `mark` in their environment, rows on
# ranks (rank, rdma, meets, lost), "me" and owners, then "== programs", "PID PROGRAM", "== processes",
# "PID PPID PGID KIB COMMAND" and "== end".
: "${mark:?}"
# Of an environment, which may hold secrets, only the mark leaves the node. macOS shows those of the
# user's own processes after the command (ps -E), but of none that the system protects.
if [ -d /proc/self ]; then
  grep -aHosz "^$mark=[0-9A-Za-z.]*" /proc/[0-9]*/environ
else
  ps axwwE -o pid=,command= | sed -n "s/^ *\([0-9]*\) .* \($mark=[0-9A-Za-z.]*\).*/\1 \2/p"
fi 2>/dev/null
# Whose each process is, and what of a rank's environment says with whom it meets: the rank, the
# coordinator's port, the ports in the ring's file. A line break in a value can't begin a row.
told() { # pid word: a NAME=value of its environment
  case $2 in
  # Once more: one that has just begun was not there when the marks were looked for.
  "$mark"=*[!0-9A-Za-z.]*) ;;
  "$mark"=*) printf '%s %s\n' "$1" "$2" ;;
  MLX_RANK=*[!0-9]* | MLX_RANK=) ;;
  MLX_RANK=*) printf 'rank %s %s\n' "$1" "${2#*=}" ;;
  MLX_JACCL_COORDINATOR=* | JACCL_COORDINATOR=*) printf 'rdma %s %s\n' "$1" "${2##*:}" ;;
  MLX_HOSTFILE=?*)
    file=${2#*=}
    if [ -f "$file" ] && [ -r "$file" ]; then
      head -c 65536 "$file" | tr '"' '\n' | sed -n "s/^.*:\([0-9][0-9]*\)$/meets $1 \1/p"
    else
      printf 'lost %s %s\n' "$1" "$file"
    fi
    ;;
  esac
}
printf '\nme %s\n' "$(id -u)"
if [ -d /proc/self ]; then # linux
  # Of another network (a container's) the ports are others.
  for file in $(grep -lasz '^MLX_RANK=[0-9]' /proc/[0-9]*/environ); do
    pid=${file#/proc/} pid=${pid%/environ}
    [ /proc/self/ns/net -ef "/proc/$pid/ns/net" ] || continue
    tr '\n\000' '?\n' <"/proc/$pid/environ" |
      grep -aE "^($mark|MLX_RANK|(MLX_)?JACCL_COORDINATOR|MLX_HOSTFILE)=" |
      while read -r word; do told "$pid" "$word"; done
  done
else
  # ps shows the arguments before: mlx.launch and its ssh have the same words there.
  ps axwwE -o pid=,command= | grep ' MLX_RANK=[0-9]' | while read -r pid words; do
    arguments=$(ps -ww -o command= -p "$pid")
    words=${words#"$arguments"}
    set -f
    for word in $words; do told "$pid" "$word"; done
    set +f
  done
fi 2>/dev/null
if command -v ps >/dev/null; then
  ps axww -o pid=,uid=,user=,lstart= | sed 's/^/owner /'
else
  for folder in /proc/[0-9]*; do
    printf 'owner %s %s\n' "${folder#/proc/}" "$(stat -c '%u %U' "$folder" 2>/dev/null)" # linux
  done
fi
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
