# Whether FileVault is on, and of which macOS: from 26 on a locked Mac can be unlocked over ssh.
command -v sw_vers >/dev/null || { echo 'no macOS'; exit 0; }
printf 'macos %s\n' "$(sw_vers -productVersion)"
perl -e 'alarm shift; exec @ARGV or exit 127' 5 fdesetup status
