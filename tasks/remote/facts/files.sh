# Lists the files of a folder, as listing.sh has it.
: "${folder:?}"
. ./paths.sh
resolve folder
cd "$folder" || exit
. ./facts/listing.sh
