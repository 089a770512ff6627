# What starts a rank: `start`.
# Its words: NAME TEXT of each file for MLX, --, its environment (NAME=VALUE), --, its arguments.
: "${rank:?}" "${python:?}" "${cwd?}" "${prepare?}" "${detach:?}"
. ./launch/node.sh
base=$at/rank-$rank
files=''
while [ "$1" != -- ]; do
  cat >"$base.$1" <<END || exit
$2
END
  files="$files $1"
  shift 2
done
shift
# What becomes the rank goes between its environment and its arguments. The ~ of --model is the
# home of this user.
resolve python cwd
before='' words=''
for word do
  shift
  case $word in '~'*) [ "$before" != --model ] || resolve word ;; esac
  before=$word
  set -- "$@" "$word"
  if [ -z "$words" ] && [ "$word" = -- ]; then
    words=1
    set -- "$@" "$prepare" "$python" -c "$detach" "$python"
    [ -z "$entry" ] || set -- "$@" "$at/entry.py"
  fi
done
enter() { [ -z "$cwd" ] || cd "$cwd" || exit 1; }
prepared() { eval "$1"; }
become() { # words: this shell becomes the rank; what is set from here on may be called as theirs is
  [ -z "$log" ] || exec >>"$log"
  exec 2>&1
  # Variables of an earlier life would win over ours (mlx: JACCL_* beats MLX_JACCL_*).
  for name in $(
    env | sed -n -e 's/^\(JACCL_[A-Za-z0-9_]*\)=.*/\1/p' \
      -e 's/^\(MLX_JACCL_[A-Za-z0-9_]*\)=.*/\1/p' -e 's/^\(MLX_RANK[A-Za-z0-9_]*\)=.*/\1/p' \
      -e 's/^\(MLX_WORLD[A-Za-z0-9_]*\)=.*/\1/p'
  ); do
    unset "$name"
  done
  unset MLX_HOSTFILE MLX_IBV_DEVICES MLX_DISTRIBUTED_BACKEND
  [ -z "$entry" ] || export MLX_TP_ENTRY_MARKS="$base.marks"
  for name in $files; do export "$name=$base.$name"; done
  while [ "$1" != -- ]; do
    # shellcheck disable=SC2163 # it is NAME=VALUE
    export "$1"
    shift
  done
  prepared "$2"
  shift 2
  exec "$@"
}
start() { # words: starts the rank, writes down its pid and start, waits for it, writes down its end
  # Only the process that becomes the rank has its environment: no other shows a secret in it.
  become "$@" </dev/null &
  pid=$!
  {
    printf '%s\n' "$pid"
    start_id "$pid"
    printf '%s\n' "$tp_boot"
  } >"$base.pid.new" && mv "$base.pid.new" "$base.pid"
  wait "$pid"
  code=$?
  printf '%s\n' "$code" >"$base.exit.new" && mv "$base.exit.new" "$base.exit"
}
