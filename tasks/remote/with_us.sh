# Ends all of this session, of which this shell is the leader, once nobody holds the other end of its
# stdin any more: however whoever started it has ended.
exec 3<&0 </dev/null
{
  read -r _ <&3
  kill -TERM 0
} >/dev/null 2>&1 &
exec 3<&-
