# A node's memory: /proc/meminfo on Linux, its size, vm_stat and swap on macOS.
if [ -r /proc/meminfo ] && ! command -v vm_stat >/dev/null; then
  cat /proc/meminfo
else
  sysctl -n hw.memsize
  vm_stat
  sysctl vm.swapusage
fi
