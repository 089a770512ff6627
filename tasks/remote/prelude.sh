# What many scripts need: a process known by pid and start, on Linux and macOS alike, and whether
# what is read is ours: a record that another user could lay there would name processes to stop.
# shellcheck shell=sh
tp_boot=$(
  { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null && printf '%s\n' "$boot" ||
    sysctl -n kern.bootsessionuuid 2>/dev/null ||
    sysctl -n kern.boottime | sed 's/.*{ sec = \([0-9]*\).*/\1/'
)
at() { # path: it, where a leading ~ is this user's home, and a leading dash no option
  case $1 in
  '~') printf '%s\n' "$HOME" ;;
  '~/'*) printf '%s/%s\n' "$HOME" "${1#'~/'}" ;;
  -*) printf './%s\n' "$1" ;;
  *) printf '%s\n' "$1" ;;
  esac
}
start_id() { # pid: when it began, empty if it is gone or only waits to be reaped
  if [ -d /proc/self ]; then
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    set -f
    # shellcheck disable=SC2086 # its fields
    set -- ${stat##*) }
    set +f
    [ "$1" = Z ] || printf '%s\n' "${20}"
  else
    # A zombie's start is still told, so its state is asked for too.
    # shellcheck disable=SC2046 # blanks made one
    set -- $(TZ=UTC0 LC_ALL=C ps -o stat=,lstart= -p "$1" 2>/dev/null)
    case $1 in Z*) ;; *) [ $# -eq 0 ] || { shift; printf '%s\n' "$*"; } ;; esac
  fi
}
is_alive() { # pid start boot
  [ -n "$2" ] && [ "$3" = "$tp_boot" ] && [ "$2" = "$(start_id "$1")" ]
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
