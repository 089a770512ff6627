# Removes files of this user's, its words.
rm -f "$@" || exit
