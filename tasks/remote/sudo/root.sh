# `root`: runs its words by sudo, which never asks on a terminal. A password (`by` is -S, else -n)
# goes from the shell's own printf to sudo's stdin: it is in no process list.
: "${by:?}" "${tp_password?}"
root() {
  case $by in
  -S) printf '%s\n' "$tp_password" | sudo -S -p '' "$@" ;;
  *) sudo -n "$@" </dev/null ;;
  esac
}
