# Where a copy would go: its path without links, what it is (device and inode), and how it lies to
# folders that no copy may delete. Folders are compared as what they are (-ef), since one has many
# names: links, another case where case is ignored, a firmlink of macOS, another mount.
# shellcheck shell=sh
: "${target:?}" "${state_dir:?}" "${source:?}" "${boot:?}"
. ./prelude.sh
real() { # folder: its path without links
  (CDPATH='' cd -P "$1" 2>/dev/null && pwd -P) | sed 's,^//*,/,' # bash may say //tmp
}
is_below() { # path folder: is the folder at that path, or above it
  below=$1
  until [ "$below" -ef "$2" ]; do
    [ "$below" != / ] || return 1
    below=${below%/*}
    : "${below:=/}"
  done
}
holds() { # folder: it is in the target, by the system's name for it or by that of the data volume
  is_below "$1" "$folder" ||
    { [ "/System/Volumes/Data$1" -ef "$1" ] && is_below "/System/Volumes/Data$1" "$folder"; }
}
count=0
relate() { # name folder [in]: how the target lies to it
  [ -d "$2" ] || return 0
  that=$(real "$2")
  : "${that:=$2}"
  if [ "$folder" -ef "$that" ]; then
    how=is
  elif holds "$that"; then
    how=holds
  elif [ -n "$3" ] && is_below "$folder" "$that"; then
    how=in
  else
    return 0
  fi
  printf '%s %s\n' "$how" "$1"
  count=$((count + 1))
}
resolve target state_dir
there=$target new=
until [ -e "$there" ] || [ -L "$there" ]; do
  new=/${there##*/}$new
  there=${there%/*}
  : "${there:=/}"
done
folder=$(real "$there")
if [ -z "$folder" ]; then
  printf '%s is no folder that can be entered\n' "$there"
  exit 1
fi
if [ -n "$new" ]; then
  folder=${folder%/}$new
  printf 'new %s\nid none\n' "$folder"
else
  id=$(stat -c %d:%i "$folder" 2>/dev/null || stat -f %d:%i "$folder") || exit # linux
  printf 'folder %s\nid %s\n' "$folder" "$id"
fi
if command -v rsync >/dev/null; then echo rsync; else echo none; fi
relate home "$HOME" ''
relate root / ''
relate tmp /tmp ''
relate state "$state_dir" in
for store in "$HF_HOME" "$HF_HUB_CACHE" "$HUGGINGFACE_HUB_CACHE" "$HOME/.cache/huggingface" \
  "${XDG_CACHE_HOME:-$HOME/.cache}/huggingface"; do
  relate store "$store" in
done
# Where other tools keep models: a model there may be a target, all of them may not.
for store in "$HOME/.lmstudio/models" "$HOME/.cache/lm-studio" "$HOME/.ollama" "$OLLAMA_MODELS"; do
  relate models "$store" ''
done
# The source is on the node only where that is this machine.
[ "$boot" != "$tp_boot" ] || relate source "$source" in
printf 'end %s\n' "$count"
