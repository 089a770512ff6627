#!/bin/sh
# bootstrap, print, kill and bootout of a LaunchDaemon with the keys of ours, which only sleeps. Needs
# sudo without a password. Not run on a Mac yet; on test hosts it is.
set -eu
label=com.mlx-tp-tasks.selftest
file=/Library/LaunchDaemons/$label.plist
draft=$(mktemp)
fail() {
  printf 'launchd.sh: %s\n' "$1" >&2
  exit 1
}
state() { /bin/launchctl print "system/$label" 2>&1; }
until_state() { # word: launchd is not done at once
  n=0
  until state | grep -q "state = $1\$"; do
    n=$((n + 1))
    [ $n -lt 50 ] || fail "$label is not $1: $(state)"
    sleep 0.2
  done
}

cat >"$draft" <<END
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key><string>$label</string>
  <key>ProgramArguments</key>
  <array><string>/bin/sh</string><string>-c</string><string>exec sleep 600</string></array>
  <key>RunAtLoad</key><true/>
  <key>StandardErrorPath</key><string>/var/log/$label.log</string>
</dict>
</plist>
END
plutil -lint "$draft"
[ $# -eq 0 ] || plutil -lint "$@" # those that rdma.persist writes
sudo -n install -m 644 -o 0 -g 0 "$draft" "$file"
sudo -n /bin/launchctl bootstrap system "$file"
until_state running
if sudo -n /bin/launchctl bootstrap system "$file" 2>&1; then fail 'bootstrap twice was taken'; fi
sudo -n /bin/launchctl kill SIGTERM "system/$label"
until_state 'not running'
sudo -n /bin/launchctl bootout "system/$label"
if state; then fail 'bootout left it loaded'; fi
# Right after a bootout launchd may answer 5 or 36 for a while.
n=0
until sudo -n /bin/launchctl bootstrap system "$file"; do
  printf 'bootstrap after bootout: %s\n' "$?"
  n=$((n + 1))
  [ $n -lt 20 ] || fail 'bootstrap after bootout was never taken'
  sleep 0.5
done
sudo -n /bin/launchctl bootout "system/$label"
sudo -n rm -f "$file" "$draft"
