# What starts a rank: `start`.
# Its words: NAME TEXT of each file for MLX, --, its environment (NAME=VALUE), --, its arguments.
: "${rank:?}" "${python:?}" "${cwd?}" "${prepare?}" "${detach:?}" "${keep_env?}" "${rdma?}"
: "${env_of?}" "${recalled?}" # the run whose kept values are used, and the names
. ./launch/node.sh
. ./hub.sh
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
# What becomes the rank goes between its environment and its arguments. The ~ of --model, and of
# what is loaded beside it, is the home of this user.
resolve python cwd
before='' words=''
for word do
  shift
  case $before=$word in --model='~'* | --adapter-path='~'* | --draft-model='~'*) resolve word ;; esac
  before=$word
  set -- "$@" "$word"
  if [ -z "$words" ] && [ "$word" = -- ]; then
    words=1
    set -- "$@" "$prepare" "$python" -c "$detach" "$python"
    [ -z "$entry" ] || set -- "$@" "$at/entry.py"
  fi
done
recall() { # names: gives them the values that an earlier run's ranks have kept here
  for name do
    for file in "$here/runs/$env_of"/rank-*.env/"$name"; do
      is_own "$file" && break
    done
    value=$(cat "$file" && printf x) || { printf 'no value of %s is kept here\n' "$name"; exit 1; }
    export "$name=${value%x}"
  done
}
keep_values() { # names: keeps their values for a later start, for this user alone
  mkdir "$base.env" || exit
  for name do eval "printf %s \"\$$name\"" >"$base.env/$name"; done
}
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
  # shellcheck disable=SC2086 # names
  [ -z "$env_of" ] || recall $recalled
  while [ "$1" != -- ]; do
    # shellcheck disable=SC2163 # it is NAME=VALUE
    export "$1"
    shift
  done
  # shellcheck disable=SC2086
  [ -z "$keep_env" ] || keep_values $keep_env
  prepared "$2"
  shift 2
  exec "$@"
}
left_cleanly() { # whether it says so itself (entry.py), or can't and has ended with 0
  if [ -n "$entry" ]; then grep -q '^left ' "$base.marks"; else [ "$code" -eq 0 ]; fi
} 2>/dev/null
start() { # words: starts the rank, writes down its pid and start, waits for it, writes down its end
  # Only the process that becomes the rank has its environment: no other shows a secret in it.
  # In a shell of its own: some keep what a redirection replaces open, and 9 with it the lock.
  (exec </dev/null 9<&-; become "$@") &
  pid=$!
  look_up "$pid"
  printf '%s\n' "$pid" "$began" "$tp_boot" >"$base.pid.new" && mv "$base.pid.new" "$base.pid"
  exec 9<&- # it has been started: others may act (fence.sh)
  [ -z "$log" ] || keep_short
  wait "$pid"
  code=$?
  # Of a signal some shells make more than a byte: 256 + 9 (ksh), 384 + 9 (yash).
  [ "$code" -le 255 ] || code=$((128 + (code & 127)))
  [ -z "$rdma" ] || left_cleanly || stamp
  printf '%s\n' "$code" >"$base.exit.new" && mv "$base.exit.new" "$base.exit"
}
