# Writes the draft of a property list, for its user alone, and has plutil check it.
: "${file:?}" "${plist:?}"
(
  umask 077
  folder=${file%/*}
  mkdir -p "$folder" && chmod 700 "$folder" && rm -f "$file" || exit
  cat >"$file" <<END || exit
$plist
END
  plutil -lint "$file"
) >/dev/null || exit
