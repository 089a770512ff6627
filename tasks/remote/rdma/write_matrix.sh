# `write_matrix`: writes MLX's matrix beside its place and renames it there: no reader ever sees half
# of it, and rename(2) follows no link. Where root writes it, `owner` gets it: in /tmp only a file's
# owner may replace it.
: "${file:?}" "${matrix?}" "${owner?}"
write_matrix() {
  [ ! -d "$file" ] || { printf '%s is a folder\n' "$file" >&2; return 1; }
  new=$(mktemp "$file.XXXXXX") || return
  if ! why=$(
    {
      printf '%s\n' "$matrix" >"$new" && chmod 644 "$new" &&
        { [ -z "$owner" ] || chown "$owner" "$new"; } &&
        perl -e 'rename $ARGV[0], $ARGV[1] or die "$!\n"' "$new" "$file"
    } 2>&1
  ); then
    rm -f "$new"
    printf "%s can't be replaced (%s): is it another user's? sudo rm %s\n" "$file" "$why" "$file" >&2
    return 1
  fi
}
