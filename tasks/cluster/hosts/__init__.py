"""What hosts.selftest asks of hosts, how it judges the answers, and the samples made of them."""
