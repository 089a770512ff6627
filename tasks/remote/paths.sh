# Paths on this node, and whether what is there is ours: what another user could lay there would
# name processes to stop.
resolve() { # names of variables that hold paths: a leading ~ becomes this user's home
  for at_name do
    eval "at_path=\$$at_name"
    # shellcheck disable=SC2088 # as text
    case $at_path in
    '~') at_path=$HOME ;;
    '~/'*) at_path=$HOME/${at_path#'~/'} ;;
    -*) at_path=./$at_path ;; # no option
    esac
    eval "$at_name=\$at_path"
  done
}
at() { # path: it, resolved
  at_given=$1
  resolve at_given
  printf '%s\n' "$at_given"
}
is_own() { # file: one that no other user has laid there
  [ -f "$1" ] && [ -O "$1" ] && [ ! -L "$1" ]
}
own() { # folder: says why not, if it is there and is not ours
  [ -e "$1" ] || [ -L "$1" ] || return 0
  [ -d "$1" ] && [ -O "$1" ] && [ ! -L "$1" ] && return 0
  printf '%s is a link or not ours: remove it, or set tp.state_dir\n' "$1" >&2
  return 1
}
