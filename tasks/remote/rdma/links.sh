# What setup does on a host, looking by itself: root runs it at boot.
# Its words, by end of a link: INTERFACE IP NETMASK, and the mask as ifconfig shows it.
: "${ifconfig:?}"
PATH=/usr/bin:/bin:/usr/sbin:/sbin
while [ $# -gt 0 ]; do
  # At boot the interface may come later than we do.
  n=0
  until "$ifconfig" "$1" >/dev/null 2>&1 || [ $n -ge 60 ]; do
    n=$((n + 1))
    sleep 1
  done
  for bridge in $("$ifconfig" -l); do
    case $bridge in
    bridge*)
      "$ifconfig" "$bridge" | grep -q "member: $1 " && "$ifconfig" "$bridge" deletem "$1"
      ;;
    esac
  done
  "$ifconfig" "$1" | grep -q "inet $2 netmask $4 " || "$ifconfig" "$1" inet "$2" netmask "$3"
  shift 4
done
