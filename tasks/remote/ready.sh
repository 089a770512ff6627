# Notes that the run which rank 0 is of was ready once.
: "${state_dir:?}"
. ./paths.sh
resolve state_dir
cd "$state_dir" || exit
run=$(sed -n 's/.*"run": "\([0-9a-f]*\)".*/\1/p' rank0.json)
umask 077
printf '%s\n' "$run" >ready.new && mv ready.new ready
