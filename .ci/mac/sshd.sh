#!/bin/sh
# An sshd of its own on 127.0.0.1 with a key made here, in the new folder $1, and $1/ssh_config by which
# it is called `own`. It runs as whoever calls, and lets in nobody else.
set -eu
folder=$1 port=${2:-2222}
mkdir -m 700 "$folder"
folder=$(cd "$folder" && pwd -P)
for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$folder/$key.key"; done
cp "$folder/user.key.pub" "$folder/authorized"
cat >"$folder/sshd_config" <<END
Port $port
ListenAddress 127.0.0.1
HostKey $folder/host.key
AuthorizedKeysFile $folder/authorized
PidFile $folder/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AcceptEnv LANG LC_*
END
printf '[127.0.0.1]:%s %s\n' "$port" "$(cut -d ' ' -f 1,2 "$folder/host.key.pub")" >"$folder/known"
cat >"$folder/ssh_config" <<END
Host own
  HostName 127.0.0.1
  Port $port
  User $(id -un)
  IdentityFile $folder/user.key
  IdentitiesOnly yes
  UserKnownHostsFile $folder/known
END
/usr/sbin/sshd -f "$folder/sshd_config" -E "$folder/sshd.log"
n=0
until ssh -F "$folder/ssh_config" -o BatchMode=yes own true; do
  n=$((n + 1))
  [ $n -lt 25 ] || { cat "$folder/sshd.log" >&2; exit 1; }
  sleep 0.2
done
