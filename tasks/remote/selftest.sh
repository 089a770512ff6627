# What we take for granted of a Mac, asked without changing anything: "== NAME" and what was said to
# it. Of a command that is not there nothing is said. The node's python, started in `cwd`, runs the
# program `ask`.
: "${python:?}" "${cwd?}" "${ask:?}"
. ./paths.sh
limited() { # seconds command: macOS has no timeout
  perl -e 'alarm shift; exec @ARGV or exit 127' "$@"
}
there() { # head command: whether it is there
  printf '\n== %s\n' "$1"
  command -v "$2" >/dev/null
}
resolve cwd python

there system sw_vers && sw_vers -productVersion
uname -s

# What must not be in a sample, and is not kept in it.
there mine id && {
  printf 'user %s\nhost %s\nhome %s\n' "$(id -un)" "$(uname -n)" "$HOME"
  for volume in /Volumes/*; do
    [ ! -d "$volume" ] || printf 'volume %s\n' "${volume#/Volumes/}"
  done
}

# Its usage names no word of a bridge; the program holds all that it knows.
there ifconfig /sbin/ifconfig && if command -v sw_vers >/dev/null; then
  for word in addm deletem deletemember; do
    printf '%s %s\n' "$word" "$(tr -c 'a-z' '\n' </sbin/ifconfig | grep -c "^$word\$")"
  done
fi

there echo sh && sh -c 'echo "a\nb"'

# The remote shell is a program that shows its words, and ends.
there rsync rsync && {
  rsync --version 2>&1 | head -n 1
  # shellcheck disable=SC2016 # perl's
  limited 5 rsync -e 'perl -e print{STDERR}qq(<$_>)for@ARGV' --rsync-path='a "b c"' \
    selftest:nothing 2>&1 | head -n 1
}

there nc nc && limited 5 nc -h 2>&1 | grep '^[[:blank:]]*-[Gwz]' # its help goes to stderr

there names sh && {
  upper=$(printf '%s\n' "$HOME" | tr '[:lower:]' '[:upper:]')
  lower=$(printf '%s\n' "$HOME" | tr '[:upper:]' '[:lower:]')
  if [ "$upper" = "$lower" ]; then
    echo unknown
  elif [ "$upper" -ef "$HOME" ] && [ "$lower" -ef "$HOME" ]; then
    echo ignored
  else
    echo minded
  fi
}

there environment sh && printf '%s\n' "LC=$LC_MLX_TP_SELFTEST" "any=$MLX_TP_SELFTEST"

there path sh && printf '%s\n' "$PATH"

there stat stat && {
  stat -f %i / 2>/dev/null | grep -x '[0-9]*' | sed 's/^/-f /'
  stat -c %i / 2>/dev/null | grep -x '[0-9]*' | sed 's/^/-c /' # linux
}

there boot sysctl && sysctl -n kern.bootsessionuuid 2>/dev/null

there tmp readlink && readlink /tmp

there python "$python" && (
  [ -z "$cwd" ] || cd "$cwd" || exit
  # Importing mlx takes seconds.
  MLX_TP_MARK=$$
  export MLX_TP_MARK
  limited 40 "$python" -c "$ask" 2>&1
)
printf '\n== end\n'
