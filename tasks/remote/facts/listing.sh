# Lists the files below the working directory, links followed: rows "CHECKSUM SIZE ./name" (of
# `cksum`) below 1 MiB, "SIZE ./name" above it, and "link ./name" for a link that leads nowhere. Its
# words: patterns of names that are not read, nor what is below them.
# macOS's wc prints names in its own way (libxo) where they are not ASCII: it gets none.
for name do
  shift
  set -- "$@" -name "$name" ! -path . -prune -o
done
find -L . "$@" -type l -exec printf 'link %s\n' {} \; -o \
  -type f \( -size -2048 -exec cksum {} + -o -exec sh -c '
    for file do
      size=$(wc -c <"$file") && printf "%s %s\n" $((size)) "$file"
    done' sh {} + \)
