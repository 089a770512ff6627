# Tells what tp.bench has measured of this cluster, a line each, once `rate` is added to it.
: "${rate?}"
. ./runs.sh
if [ -n "$rate" ] && [ -d "$here" ] && own "$here"; then
  { tail -n 99 "$here/rates" 2>/dev/null; printf '%s\n' "$rate"; } >"$here/rates.$$" &&
    mv "$here/rates.$$" "$here/rates" || exit
fi
if is_own "$here/rates"; then cat "$here/rates"; fi
