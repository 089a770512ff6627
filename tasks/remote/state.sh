# Tells all that is in a node's state directory; one that is not there is an empty state.
: "${state_dir:?}"
. ./prelude.sh
resolve state_dir
is_there=''
if [ -e "$state_dir" ] || [ -L "$state_dir" ]; then
  # A directory that is there but can't be entered is no empty state.
  own "$state_dir" && cd "$state_dir" || exit
  is_there=1
fi
case $state_dir in /*) ;; *) state_dir=$PWD/$state_dir ;; esac
[ -z "$is_there" ] || state_dir=$PWD
printf 'now %s\nboot %s\nat %s\n' "$(date +%s)" "$tp_boot" "$state_dir"
[ -n "$is_there" ] || { echo end; exit 0; }
# A shell's own `read`: what is asked every second should start few programs.
line() { # word file: the word and the file's first line
  line=''
  is_own "$2" && { read -r line <"$2"; printf '%s %s\n' "$1" "$line"; }
}
for file in rank*.json; do
  is_own "$file" || continue
  file=${file%.json}
  printf 'rank %s\n' "${file#rank}"
  printf 'record %s\n' "$(head -c 65536 "$file.json" | tr -d '\n\000')"
  recorded "$file.pid"
  case $pid in
  '' | *[!0-9]*) ;;
  *)
    printf 'pid %s\nstart %s\nof %s\n' "$pid" "$start" "$boot"
    if is_alive "$pid" "$start" "$boot"; then
      echo alive
    elif [ "$boot" = "$tp_boot" ]; then
      # The shell that waits for a rank writes its exit status a moment after its death.
      n=0
      until is_own "$file.exit" || [ $n -ge 5 ]; do
        n=$((n + 1))
        sleep 0.1
      done
    fi
    ;;
  esac
  line exit "$file.exit"
done 2>/dev/null
line ready ready
is_own last.json && printf 'last %s\n' "$(head -c 65536 last.json | tr -d '\n\000')"
line sigkill sigkill
is_own baseline && head -c 65536 baseline | sed 's/^/baseline /'
echo end
