# Runs node.py on this node, in `folder`, with its words; `plan` and `rank` are files for it.
: "${program:?}" "${python:?}" "${folder:?}" "${plan?}" "${rank?}"
. ./paths.sh
resolve folder python
mkdir -p "$folder" && cd "$folder" || exit
printf '%s\n' "$program" >node.py || exit
[ -z "$plan" ] || printf '%s\n' "$plan" >plan.json
# What the ranks' python takes in when it begins (PYTHONPATH).
[ -z "$rank" ] || { mkdir -p rank && printf '%s\n' "$rank" >rank/sitecustomize.py; } || exit
exec "$python" node.py "$@"
