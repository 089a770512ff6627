# Whether macOS installs updates of itself by itself: what manages this Mac says, else its admin.
command -v sw_vers >/dev/null || { echo 'no macOS'; exit 0; }
for at in '/Library/Managed Preferences' /Library/Preferences; do
  said=$(perl -e 'alarm shift; exec @ARGV or exit 127' 5 \
    defaults read "$at/com.apple.SoftwareUpdate" AutomaticallyInstallMacOSUpdates 2>/dev/null)
  [ $? -ne 127 ] || exit 1 # a key that is not there is no error
  printf '%s: %s\n' "$at" "$said"
done
