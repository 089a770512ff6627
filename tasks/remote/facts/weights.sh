# What the weights say of themselves: "index" where there is one, 'named "FILE"' for each file that it
# names, "header LENGTH END ./FILE" for each that is there, and "end".
# `od` tells the header's length; a pointer of git-lfs, or an empty file, has none that makes sense
# (safetensors allows 100 MB). Values are at most 15 digits, which sort -n compares exactly.
. ./facts/enter_model.sh
if [ -f model.safetensors.index.json ]; then
  echo index
  grep -o '"[^"/]*\.safetensors"' model.safetensors.index.json | sort -u | sed 's/^/named /'
fi
for file in *.safetensors; do
  [ -f "$file" ] || continue
  length=$(od -A n -t u8 -N 8 "$file" | tr -d ' \t\n')
  case $length in
  '' | ??????????*) length=- end=- ;;
  *)
    end=$(tail -c +9 "$file" | head -c "$length" |
      grep -a -o '"data_offsets" *: *\[[0-9 ]*,[0-9 ]*\]' |
      sed 's/.*,//; s/[^0-9]//g' | sort -n | tail -n 1)
    ;;
  esac
  printf 'header %s %s ./%s\n' "$length" "${end:-0}" "$file"
done
echo end
