# How much memory the GPU may wire; a Linux has no such limit.
if [ -r /proc/meminfo ] && ! command -v vm_stat >/dev/null; then
  echo no limit
else
  sysctl iogpu.wired_limit_mb
fi
