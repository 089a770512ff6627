# rsync in the folder that was looked at, or in one that is new: what else may lie at its name by
# now is left alone. The folder is then the working directory, which no other name can change.
# shellcheck shell=sh
: "${folder:?}" "${id?}"
if [ -z "$id" ]; then
  mkdir -p "$folder" && cd -P "$folder" && [ "$folder" = "$(pwd -P)" ]
else
  cd -P "$folder" && [ "$id" = "$(stat -c %d:%i . 2>/dev/null || stat -f %d:%i .)" ] # linux
fi || {
  printf '%s has changed since it was looked at: nothing was done there\n' "$folder" >&2
  exit 1
}
exec rsync "$@"
