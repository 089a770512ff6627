# A cluster's folder on this node (`here`), its runs, and what is wanted of it. A run that is over
# has a file `ended`: nothing of it is left. Before runs had folders of their own, what was known of
# ranks lay in `old`; it is still read.
: "${state_dir:?}" "${cluster:?}"
. ./prelude.sh
umask 077
resolve state_dir
case $state_dir in /*) ;; *) state_dir=$PWD/$state_dir ;; esac
here=$state_dir/$cluster
# shellcheck disable=SC2034 # whoever takes this in uses it
old=$here
# shellcheck disable=SC2034
[ "$cluster" != default ] || old=$state_dir
newest() { # $runs: the names of the runs, which begin with the time, the newest first
  runs=''
  for at_run in "$here"/runs/*; do runs="${at_run##*/} $runs"; done
}
is_open() { # folder of a run
  [ -d "$1" ] && [ -O "$1" ] && [ ! -L "$1" ] && [ ! -e "$1/ended" ]
}
living() { # pid files: whether a rank of them lives: $number and $pid
  for file do
    recorded "$file"
    number=${file##*rank} number=${number#-} number=${number%.pid}
    ! is_alive "${pid:-0}" "$start" "$boot" || return 0
  done
  return 1
}
forget_old() { # more files: what the layout before knew of ranks; no cluster's name has a dot
  rm -rf "$old"/rank[0-9]*.* "$old/ready" "$old"/ready.* "$@"
}
note() { # file line: as its first line, whole; what is there gives its place where a disk is full
  printf '%s\n' "$2" >"$1.$$" && mv "$1.$$" "$1" && return
  rm -f "$1.$$"
  # By 3: of a function within $( ) bash takes 1<> for 0<>.
  is_own "$1" && printf '%s\n' "$2" 3<>"$1" >&3
}
stamp() { # of a rank that has left what it had of RDMA to the kernel: the next start waits
  own "$state_dir" && mkdir -p "$state_dir" && chmod 700 "$state_dir" &&
    note "$state_dir/sigkill" "$(date +%s) $tp_boot"
}
wanted() { # $want $want_run $since $by: what is wanted of the cluster, as it was written down
  want='' want_run='' since='' by=''
  # shellcheck disable=SC2034 # whoever asks uses them
  is_own "$here/wanted" && read -r want want_run since by <"$here/wanted"
}
want() { # running or stopped, run, by whom
  note "$here/wanted" "$1 $2 $(date +%s) $3"
}
want_stopped() { # by whom: nobody is to start it again, but for who asks for it
  wanted
  [ "$want" != running ] || want stopped "$want_run" "$1"
}
