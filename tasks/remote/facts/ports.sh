# Who listens: "== table", all listeners, "== whole" if none is left out, and "== lsof" with their
# processes, if a row has one of its words. lsof is slow where there are many processes, and most
# often all that we want is free.
tables() {
  if [ ! -r /proc/net/tcp ]; then
    netstat -an -p tcp
  elif command -v ss >/dev/null; then # linux
    # It asks for listeners only; for the files the kernel goes through all of its sockets.
    ss -ltn
  else
    cat /proc/net/tcp && { [ ! -r /proc/net/tcp6 ] || cat /proc/net/tcp6; }
  fi
}
# A node that is asked often has thousands of rows of connections that are over.
table=$({ tables && echo '== whole'; } |
  grep -e ocal.address -e ocal.Address -e ' 0A ' -e LISTEN -e '^==')
printf '%s\n' '== table' "$table" '== lsof'
for word do
  case $table in
  *"$word"*)
    lsof -nP -iTCP -sTCP:LISTEN -F pcn 2>/dev/null
    break
    ;;
  esac
done
true
