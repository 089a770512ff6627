# rsync in the folder that was looked at, or in one that is new: what else may lie at its name by
# now is left alone. The folder is then the working directory, which no other name can change.
# shellcheck shell=sh
: "${folder:?}" "${id?}" "${hold?}" "${fence?}"
if [ -z "$id" ]; then
  mkdir -p "$folder" && cd -P "$folder" && [ "$folder" = "$(pwd -P)" ]
else
  cd -P "$folder" && [ "$id" = "$(stat -c %d:%i . 2>/dev/null || stat -f %d:%i .)" ] # linux
fi || {
  printf '%s has changed since it was looked at: nothing was done there\n' "$folder" >&2
  exit 1
}
# Who deletes here must have the cluster still (fence.sh); nobody else is asked. Over ssh, IFS is `;`.
# shellcheck disable=SC2088 # as text
case $fence in '~/'*) fence=$HOME/${fence#'~/'} ;; /*) ;; *) fence=$HOME/$fence ;; esac
[ -z "$hold" ] || { IFS=' ' read -r highest of by && [ "$of" = "$hold" ]; } <"$fence" || {
  printf 'fence %s %s %s\n' "$highest" "$of" "$by" >&2
  exit 76
}
exec rsync "$@"
