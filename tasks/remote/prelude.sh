# A process known by pid and start, on Linux and macOS alike, and the paths of what tells of it.
. ./paths.sh
{ read -r tp_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null || tp_boot=$(
  sysctl -n kern.bootsessionuuid 2>/dev/null ||
    sysctl -n kern.boottime | sed 's/.*{ sec = \([0-9]*\).*/\1/'
)
look_up() { # pid: $began, empty if it is gone or only waits to be reaped; no process for it on Linux
  began='' stat=''
  if [ -d /proc/self ]; then
    # A name may have line breaks.
    { while read -r more || [ -n "$more" ]; do stat="$stat $more"; done <"/proc/$1/stat"; } 2>/dev/null
    set -f
    # shellcheck disable=SC2086 # its fields
    set -- ${stat##*) }
    set +f
    [ "$1" = Z ] || began=${20}
  else
    # A zombie's start is still told, so its state is asked for too.
    # shellcheck disable=SC2046 # blanks made one
    set -- $(TZ=UTC0 LC_ALL=C ps -o stat=,lstart= -p "$1" 2>/dev/null)
    case $1 in Z*) ;; *) [ $# -eq 0 ] || { shift; began=$*; } ;; esac
  fi
}
is_alive() { # pid start boot
  [ -n "$2" ] && [ "$3" = "$tp_boot" ] && look_up "$1" && [ "$2" = "$began" ]
}
is_suspended() { # pid: whether something has stopped it for a while (SIGSTOP, a debugger)
  if [ -d /proc/self ]; then
    read -r stat <"/proc/$1/stat" || return
    case ${stat##*) } in [Tt]*) ;; *) return 1 ;; esac
  else
    case $(ps -o stat= -p "$1") in T*) ;; *) return 1 ;; esac
  fi
}
recorded() { # file: $pid, $start and $boot as they were written down in it
  pid='' start='' boot=''
  # shellcheck disable=SC2034 # whoever asks uses them
  is_own "$1" && { read -r pid; read -r start; read -r boot; } <"$1"
}
