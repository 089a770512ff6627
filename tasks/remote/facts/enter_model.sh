# Goes where mlx-lm would look for a model: a folder, seen from `cwd`, or Hugging Face's cache, where
# it is called `cached`. Exits with 3 where it is not there.
: "${model:?}" "${cached:?}" "${cwd?}"
. ./paths.sh
resolve cwd
[ -z "$cwd" ] || cd "$cwd" || exit
resolve model
if [ ! -d "$model" ]; then
  cache=${HF_HUB_CACHE:-${HF_HOME:-$HOME/.cache/huggingface}/hub}/$cached
  model=$cache/snapshots/$(cat "$cache/refs/main" 2>/dev/null)
  [ -d "$model" ] && [ -f "$cache/refs/main" ] || exit 3
fi
cd "$model" || exit
