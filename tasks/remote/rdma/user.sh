# Whom a sudoers line is for, and where a file of this user's is, as root sees it.
id -un
printf '%s\n' "$HOME"
