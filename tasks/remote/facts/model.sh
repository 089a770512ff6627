# The model's folder, "folder PATH", and its files, as listing.sh has it.
. ./facts/enter_model.sh
printf 'folder %s\n' "$PWD"
. ./facts/listing.sh
