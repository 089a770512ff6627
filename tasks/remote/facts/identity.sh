# Which machine this is, by whatever name it was called.
if command -v ioreg >/dev/null; then
  ioreg -rd1 -c IOPlatformExpertDevice |
    sed -n 's/.*"IOPlatformUUID" = "\([0-9A-Fa-f-]*\)".*/machine \1/p'
else
  # A copy of an installation has its id, but was booted by itself. Not told as it is: it is private.
  printf 'machine %s\n' "$(cat /etc/machine-id /proc/sys/kernel/random/boot_id 2>/dev/null | cksum)" # linux
fi
