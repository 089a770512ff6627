#!/bin/sh
# What setup and the LaunchDaemon do to a port, by this Mac's own ifconfig: on a bridge that is made for
# it, and a port that is there, or feth0, which is made too. Needs sudo without a password. On a machine that
# is thrown away: nothing here is undone on a failure. Not run on a Mac yet; on test hosts it is.
set -eu
port=${1:-feth0} bridge=${2:-bridge7}
PATH=$PATH:/sbin:/usr/sbin
fail() {
  printf 'bridge.sh: %s\n' "$1" >&2
  exit 1
}
member() { ifconfig "$bridge" | grep -q "member: $port "; }

case $port in
feth*)
  sudo -n ifconfig "$port" create
  sudo -n ifconfig feth1 create
  sudo -n ifconfig "$port" peer feth1
  ;;
esac
sudo -n ifconfig "$bridge" create
sudo -n ifconfig "$bridge" addm "$port"
member || fail "addm: $port is no member"

# Of Apple's words there is only deletem; any other is taken for an address.
word=deletemember
if said=$(sudo -n ifconfig "$bridge" "$word" "$port" 2>&1); then fail "$word was taken"; fi
printf '%s\n' "$said"
case $said in *"bad value"*) ;; *) fail "$word was refused in other words" ;; esac

sudo -n ifconfig "$bridge" deletem "$port"
if member; then fail "deletem: $port is still a member"; fi

# An address, and the same once more: there is one, and it is as ifconfig shows it to our parser.
for again in first second; do
  printf 'address, the %s time\n' "$again"
  sudo -n ifconfig "$port" inet 10.254.250.1 netmask 255.255.255.252
done
[ "$(ifconfig "$port" | grep -c 'inet 10.254.250.1 netmask 0xfffffffc ')" -eq 1 ] ||
  fail "no such address: $(ifconfig "$port")"
sudo -n ifconfig "$port" inet 10.254.250.1 -alias
if ifconfig "$port" | grep 'inet 10.254.250.1 '; then fail "-alias left the address"; fi
