# Writes down what a rank is, and what starts it: `start`.
# Its words: NAME TEXT of each file for MLX, --, its environment (NAME=VALUE), --, its arguments.
: "${rank:?}" "${run:?}" "${record:?}" "${already:?}" "${python:?}" "${cwd?}" "${prepare?}"
: "${detach:?}"
. ./launch/node.sh
base=$state_dir/rank$rank
recorded "$base.pid"
# A rank that still lives is never forgotten, whatever checks were skipped.
if is_alive "${pid:-0}" "$start" "$boot"; then
  printf 'rank %s already runs (pid %s): inv tp.stop\n' "$rank" "$pid" >&2
  exit "$already"
fi
# A link that is still there would be followed.
rm -rf "$base".*
[ "$rank" != 0 ] || rm -rf "$state_dir"/ready*
cat >"$base.json" <<END || exit
$record
END
files=''
while [ "$1" != -- ]; do
  cat >"$base.$1" <<END || exit
$2
END
  files="$files $1"
  shift 2
done
shift
# What was started last is known after it has been stopped, too: for tp.restart.
if [ "$rank" = 0 ]; then
  rm -rf "$state_dir/last.json"
  cp "$base.json" "$state_dir/last.json" || exit
fi
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
  # Of a signal some shells make more than a byte: 256 + 9 (ksh), 384 + 9 (yash).
  [ "$code" -le 255 ] || code=$((128 + (code & 127)))
  printf '%s %s\n' "$run" "$code" >"$base.exit.new" && mv "$base.exit.new" "$base.exit"
}
