# Joins stdin and stdout to a port as this node sees it, by the program `between` in a python of its
# own: for sshd that forwards no connections. The first line with `nonce` says what came of it.
: "${python:?}" "${between:?}" "${host:?}" "${port:?}" "${nonce:?}"
. ./paths.sh
resolve python
for each in "$python" python3; do
  command -v "$each" >/dev/null 2>&1 && exec "$each" -S -c "$between" "$host" "$port" "$nonce"
done
printf '%s no python3\n' "$nonce"
