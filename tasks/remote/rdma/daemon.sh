# Whether launchd runs a daemon, and its file, if there is one (status 3 where there is none).
: "${launchctl:?}" "${label:?}" "${file:?}"
if "$launchctl" print "system/$label" >/dev/null 2>&1; then
  echo loaded yes
else
  echo loaded no
fi
[ -e "$file" ] || exit 3
cat "$file"
