# At which address of this node ssh came in, and whether files of ours are there.
: "${draft:?}" "${log:?}"
to=${SSH_CONNECTION#* * }
printf 'came in by %s\n' "${to%% *}"
[ -e "$HOME/$draft" ] && echo draft
[ -e "$log" ] && echo log
echo end
