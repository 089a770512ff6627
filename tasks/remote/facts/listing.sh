# Lists the files below the working directory, links followed: rows "CHECKSUM SIZE ./name" (of
# `cksum`) below 1 MiB, "SIZE ./name" and a total (of `wc -c`) above it, and "link ./name" for a link
# that leads nowhere. Its words: patterns of names that are not read, nor what is below them.
for name do
  shift
  set -- "$@" -name "$name" ! -path . -prune -o
done
find -L . "$@" -type l -exec printf 'link %s\n' {} \; -o \
  -type f \( -size -2048 -exec cksum {} + -o -exec wc -c {} + \)
