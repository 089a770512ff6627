# Writes MLX's matrix beside its place and moves it there: no reader ever sees half of it. A link or
# folder that someone has laid at its place is not followed. Where root writes it, `owner` gets it:
# in /tmp only a file's owner may replace it.
: "${file:?}" "${matrix:?}" "${owner?}"
[ ! -d "$file" ] || { printf '%s is a folder\n' "$file" >&2; exit 1; }
new=$(mktemp "$file.XXXXXX") || exit
write() {
  cat >"$new" <<END || return
$matrix
END
  chmod 644 "$new" && { [ -z "$owner" ] || chown "$owner" "$new"; } && mv -f "$new" "$file"
}
if ! write; then
  rm -f "$new"
  printf "%s can't be replaced: is it another user's? sudo rm %s\n" "$file" "$file" >&2
  exit 1
fi
