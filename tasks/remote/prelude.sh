# A process known by pid and start, on Linux and macOS alike, and the paths of what tells of it.
. ./paths.sh
{ read -r tp_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null || tp_boot=$(
  sysctl -n kern.bootsessionuuid 2>/dev/null ||
    sysctl -n kern.boottime | sed 's/.*{ sec = \([0-9]*\).*/\1/'
)
look_up() { # pid: $began, empty if it is gone or only waits to be reaped, and what it $does (T: it is
  # stopped, for a while or by a debugger); on Linux no program is started for it
  began='' does='' stat=''
  if [ -d /proc/self ]; then
    # A name may have line breaks.
    { while read -r more || [ -n "$more" ]; do stat="$stat $more"; done <"/proc/$1/stat"; } 2>/dev/null
    set -f
    # shellcheck disable=SC2086 # its fields
    set -- ${stat##*) }
    set +f
    does=$1
    # While other threads of it have not ended, it holds its ports and its memory.
    [ "$does" = Z ] && [ "${18}" -le 1 ] || began=${20}
  else
    # A zombie's start is still told, so its state is asked for too.
    # shellcheck disable=SC2046 # blanks made one
    set -- $(TZ=UTC0 LC_ALL=C ps -o stat=,lstart= -p "$1" 2>/dev/null)
    does=$1
    case $does in Z* | '') ;; *) shift; began=$* ;; esac
  fi
}
is_alive() { # pid start boot
  [ -n "$2" ] && [ "$3" = "$tp_boot" ] && look_up "$1" && [ "$2" = "$began" ]
}
recorded() { # file: $pid, $start and $boot as they were written down in it
  pid='' start='' boot=''
  # shellcheck disable=SC2034 # whoever asks uses them
  is_own "$1" && { read -r pid; read -r start; read -r boot; } <"$1"
}
