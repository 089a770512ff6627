# Goes where mlx-lm would look for a model: a folder, seen from `cwd`, or Hugging Face's cache as the
# program `hub` finds it by the rank's `python` and environment (`hub_env`, NAME=VALUE a line), where
# it is called `cached`. Exits with 3 where it is not there, or is a file, and then says `file`.
: "${model:?}" "${cached:?}" "${cwd?}" "${python?}" "${hub:?}" "${hub_env?}"
. ./hub.sh
of_hub() {
  while IFS= read -r pair; do
    # shellcheck disable=SC2163 # it is NAME=VALUE
    [ -z "$pair" ] || export "$pair"
  done <<END
$hub_env
END
  # macOS has no `timeout`.
  perl -e 'alarm shift; exec @ARGV or exit 127' 20 "$python" -c "$hub" "$model" 2>/dev/null </dev/null
  case $? in 0 | 3) return ;; esac
  cache=$(hub_cache)/$cached
  [ -f "$cache/refs/main" ] && printf '%s\n' "$cache/snapshots/$(cat "$cache/refs/main")"
}
resolve cwd
[ -z "$cwd" ] || cd "$cwd" || exit
resolve model python
if [ -f "$model" ]; then
  echo file
  exit 3
fi
if [ ! -d "$model" ]; then
  model=$(of_hub)
  [ -d "$model" ] || exit 3
fi
cd "$model" || exit
