# A node's memory: /proc/meminfo on Linux, its size and vm_stat on macOS.
if [ -r /proc/meminfo ] && ! command -v vm_stat >/dev/null; then
  cat /proc/meminfo
else
  sysctl -n hw.memsize
  vm_stat
fi
