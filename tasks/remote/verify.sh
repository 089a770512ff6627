# Reads every byte of the model's files and says what they are (verify.py), as long as that takes.
: "${verify:?}"
. ./facts/ask_model.sh
echo # ends what a login shell may have begun
exec "$python" -I -c "$verify" "$folder" "$state_dir"
