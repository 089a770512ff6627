# What machine this is: rows "system TEXT", "chip TEXT", "cores N" and, on a Mac, "model TEXT" and
# "macos VERSION BUILD".
printf 'system %s\n' "$(uname -srm)"
if [ -r /proc/cpuinfo ]; then
  sed -n 's/^model name[^:]*: */chip /p' /proc/cpuinfo | head -n 1
  printf 'cores %s\n' "$(grep -c '^processor' /proc/cpuinfo)"
else
  printf 'chip %s\n' "$(sysctl -n machdep.cpu.brand_string)"
  printf 'cores %s\n' "$(sysctl -n hw.ncpu)"
fi
if command -v sw_vers >/dev/null; then
  printf 'model %s\n' "$(sysctl -n hw.model)"
  printf 'macos %s %s\n' "$(sw_vers -productVersion)" "$(sw_vers -buildVersion)"
fi
