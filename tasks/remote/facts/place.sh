# Where a copy would go: rows "home PATH", then "folder PATH" or "new PATH", "rsync" or "none".
: "${target:?}"
. ./paths.sh
cd || exit
printf 'home %s\n' "$(pwd -P)"
resolve target
if cd "$target" 2>/dev/null; then
  printf 'folder %s\n' "$(pwd -P)"
elif [ -e "$target" ] || [ -L "$target" ]; then
  printf '%s is no folder that can be entered\n' "$target"
  exit 1
else
  printf 'new %s\n' "$target"
fi
if command -v rsync >/dev/null; then echo rsync; else echo none; fi
