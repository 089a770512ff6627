"""Wrong command lines and files, over all tasks: one clear line, the right exit status, no change.

The program runs in this process, as `inv` would (a process each takes half a second); a few run for
real at the end. test_bad_input.py and unit/cluster/config/test_hostfile.py hold more of them.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Done, Inv
from rig import Rig

from tasks import ns
from tasks.cli.options import ClusterTask
from tasks.cli.program import Program
from tasks.cluster.config.settings import DEFAULTS
from tasks.executor import Executor

# A command line as a shell would take it, its exit status, and what its one line must say.
LOCAL_UP = "inv local.up"  # a plain user is told sooner what test hosts need
LINES: list[tuple[str, int, str]] = [
    # The cluster, as every task that has one is told it.
    ("tp.stop --hostfile ''", 2, "--hostfile is empty"),
    ("tp.stop --hosts ''", 2, "a host is empty"),
    ("tp.stop --hosts a --hosts ''", 2, "a host is empty"),
    ("tp.stop --hosts a, ", 2, "a host is empty"),
    ("tp.stop --hosts 'a;b'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts 'a|b'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts 'a&b'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts '`id`'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts 'a*'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts 'a,b c'", 2, "hosts[1].ssh is not allowed"),
    ("tp.stop --hosts 'bücher'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts 'a/../b'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts 'a:22'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts=-v", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts a@b@c", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts '$HOME'", 2, "hosts[0].ssh is not allowed"),
    ("tp.stop --hosts localhost,127.0.0.1", 2, "are the same machine"),
    ("tp.stop --hosts mac1,mac2,mac1", 2, "hosts[2].ssh: 'mac1' is there twice"),
    ("tp.stop --hosts 10.0.0.256", 2, "hosts[0].ips[0] is wrong"),
    ("tp.stop --hostfile /dev/null", 2, "is empty"),
    ("tp.stop --hostfile /", 2, "can't be read"),
    ("tp.stop --hostfile ~nobody-here/x", 2, "can't be read"),
    ("tp.stop --hostfile $'a\\nb'", 2, "--hostfile 'a\\nb': give a path on one line"),
    ("tp.stop --hostfile $'\\033[31mx'", 2, "give a path on one line"),
    ("tp.stop --hostfile README.md", 2, "README.md:1: not JSON"),
    ("tp.stop --hostfile hosts/schema.json", 2, 'hosts/schema.json: the file has no "hosts"'),
    ("tp.stop --hostfile pyproject.toml", 2, "pyproject.toml:"),
    ("tp.stop --hostfile a --hosts b", 2, "not both"),
    ("tp.stop --engine nope", 2, "engine 'nope' is unknown: choose one of mlx-lm, vllm-mlx"),
    ("tp.stop --engine ''", 2, "--engine is empty"),
    ("tp.stop --engine $'mlx-lm\\n'", 2, "text on one line"),
    ("tp.stop --engine MLX-LM", 2, "is unknown"),
    # tp.start, and what it is made of.
    ("tp.start --backend ''", 2, "--backend is empty"),
    ("tp.start --backend 'ring '", 2, "choose one of"),
    ("tp.start --backend mpi", 2, "--backend mpi: MLX knows it"),
    ("tp.start --backend jaccl-ring", 2, "jaccl-ring needs one"),
    ("tp.start --python ''", 2, "--python is empty"),
    ("tp.start --python $'a\\tb'", 2, "python 'a\\tb': give a path on one line"),
    ("tp.start --cwd ''", 2, "--cwd is empty"),
    ("tp.start --cwd $'\\033]0;x\\007'", 2, "give a path on one line"),
    ("tp.start --log-dir ''", 2, "--log-dir is empty"),
    ("tp.start --log-dir $'\\033[2J'", 2, "--log-dir '\\x1b[2J': give a path on one line"),
    ("tp.start --timeout ''", 2, "--timeout is empty"),
    ("tp.start --timeout -1", 2, "--timeout -1"),
    ("tp.start --timeout 0x10", 2, "--timeout 0x10: give a number"),
    ("tp.start --timeout '1 2'", 2, "--timeout 1 2: give a number"),
    ("tp.start --timeout 99999999999999", 2, "--timeout 99999999999999: give a number"),
    ("tp.start --timeout 1,5", 2, "--timeout 1,5: give a number"),
    ("tp.start --timeout 5m", 2, "--timeout 5m: give a number"),
    ("tp.start --lock-wait soon", 2, "--lock-wait soon: give a number"),
    ("tp.start --lock-wait -1", 2, "--lock-wait -1: give a number"),
    ("tp.start -n ''", 2, "--num-ranks is empty"),
    ("tp.start -n 5", 2, "-n 5: "),
    ("tp.start -n 1e2", 2, "-n 1e2: give a number"),
    ("tp.start -n 1025", 2, "-n 1025: give a number from 1 to 1024"),
    ("tp.start -n two", 2, "-n two: give a number"),
    ("tp.start --num-ranks 0.5", 2, "-n 0.5"),
    ("tp.start --skip speed", 2, "--skip speed: choose from memory"),
    ("tp.start --skip memory,,prots", 2, "--skip prots: choose from"),
    ("tp.start --env ''", 2, "'' is no NAME=value"),
    ("tp.start --env sk-secret", 2, "'sk' is no NAME=value"),
    ("tp.start --env 'KEY: sk-secret'", 2, "'KEY' is no NAME=value"),
    ("tp.start --env A=1 --env 'B C=2'", 2, "'B' is no NAME=value"),
    ("tp.start --env 'ü=1'", 2, "is no NAME=value"),
    ("tp.start --env 'A;touch canary=1'", 2, "'A' is no NAME=value"),
    ("tp.start --env $'A=\\udcff'", 2, "the value of A is no UTF-8"),
    ("tp.start -- --port 1.5", 2, "--port 1.5: write a port number"),
    ("tp.start -- --port -1", 2, "--port -1: write a port number"),
    ("tp.start -- --port=", 2, "--port: give a value behind it"),
    ("tp.start -- --port ²", 2, "--port ²: write a port number"),
    ("tp.start -- --port 65536", 2, "--port 65536: write a port number"),
    ("tp.start -- --host '$(id)'", 2, "--host '$(id)': write a name or an address"),
    ("tp.start -- --host 'a b'", 2, "--host 'a b'"),
    ("tp.start -- --host http://x", 2, "--host 'http://x'"),
    ("tp.start -- --model $'\\udcff'", 2, "write it in UTF-8"),
    ("tp.launch --backend x", 2, "--backend x: choose one of"),
    ("tp.launch --timeout 5", 1, "No idea what '--timeout' is!"),
    ("tp.launch -- --port x", 2, "--port x: write a port number"),
    ("tp.wait --timeout 0.0", 2, "--timeout 0.0: give a number above 0"),
    ("tp.health --timeout x", 2, "--timeout x: give a number"),
    ("tp.health --timeout 0", 2, "--timeout 0: give a number above 0"),
    ("tp.model --backend 5", 2, "--backend 5: choose one of"),
    ("tp.preflight --skip all", 2, "--skip all: choose from memory"),
    ("tp.preflight --skip MEMORY", 2, "--skip MEMORY: choose from memory"),
    ("tp.preflight --skip '$(touch canary)'", 2, "--skip $(touch canary): choose from"),
    ("tp.preflight -- --port nope", 2, "--port nope"),
    ("tp.cooldown --hosts -", 2, "hosts[0].ssh is not allowed"),
    ("tp.cooldown --skip-checks=yes", 1, "No idea what 'yes' is!"),
    # The other tasks of tp.
    ("tp.stop --order ''", 2, "--order is empty"),
    ("tp.stop --order ALL", 2, "--order ALL: choose leader or all"),
    ("tp.stop --timeout -0.5", 2, "--timeout -0.5"),
    ("tp.stop --timeout 15s", 2, "--timeout 15s: give a number"),
    ("tp.stop --lock-wait x", 2, "--lock-wait x"),
    ("tp.stop --signal 9", 1, "No idea what '--signal' is!"),
    ("tp.stop 1234", 1, "No idea what '1234' is!"),
    ("tp.status --json=1", 1, "No idea what '1' is!"),
    ("tp.status --hosts a --hostfile b", 2, "not both"),
    ("tp.memory --hostfile nope", 2, "nope: no such hostfile"),
    ("tp.memory --engine x", 2, "engine 'x' is unknown"),
    ("tp.logs --lines -1", 2, "--lines -1: give a number"),
    ("tp.logs --lines ''", 2, "--lines is empty"),
    ("tp.logs --lines 1e3", 2, "--lines 1e3: give a number"),
    ("tp.logs --lines 1.5", 2, "--lines 1.5"),
    ("tp.logs --rank -1", 2, "--rank -1"),
    ("tp.logs --rank 1024", 2, "--rank 1024: give a number from 0 to 1023"),
    ("tp.logs --rank 0.5", 2, "--rank 0.5"),
    ("tp.logs --rank ''", 2, "--rank is empty"),
    ("tp.logs --grep ''", 2, "--grep is empty"),
    ("tp.logs --grep '*'", 2, "no regular expression"),
    ("tp.logs --grep '[a'", 2, "no regular expression"),
    ("tp.logs --grep '(?P<a'", 2, "no regular expression"),
    ("tp.logs --previous 0", 2, "--previous 0: give a number of 1 or more"),
    ("tp.logs --previous last", 2, "--previous last: give a number"),
    ("tp.logs --previous 1 --follow", 2, "give one of them"),
    ("tp.start --keep-logs -1", 2, "--keep-logs -1: give a number"),
    ("tp.start --keep-logs all", 2, "--keep-logs all: give a number"),
    ("tp.launch --keep-logs 0.5", 2, "--keep-logs 0.5: give a whole number"),
    ("tp.restart --keep-logs x", 2, "--keep-logs x: give a number"),
    ("tp.restart --sync=yes", 1, "No idea what 'yes' is!"),
    ("tp.logs --log-dir $'a\\rb'", 2, "give a path on one line"),
    ("tp.audit --lines -1", 2, "--lines -1: give a number"),
    ("tp.audit --lines many", 2, "--lines many: give a number"),
    ("tp.audit --hosts 'a b'", 2, "hosts[0].ssh is not allowed"),
    ("tp.unlock --hostfile nope", 2, "nope: no such hostfile"),
    ("tp.watch --hosts 'a b'", 2, "hosts[0].ssh is not allowed"),
    ("tp.watch --max-restarts x", 2, "--max-restarts x: give a number"),
    ("tp.watch --max-restarts -1", 2, "--max-restarts -1"),
    ("tp.chat", 1, "did not receive required positional arguments"),
    ("tp.chat ''", 2, "--prompt is empty"),
    ("tp.chat ' '", 2, "--prompt is empty"),
    ("tp.chat Hi --max-tokens 0", 2, "--max-tokens 0: give a number of 1 or more"),
    ("tp.chat Hi --max-tokens few", 2, "--max-tokens few: give a number"),
    ("tp.chat Hi --temperature warm", 2, "--temperature warm: give a number"),
    ("tp.chat Hi --temperature 101", 2, "--temperature 101: give a number from 0 to 100"),
    ("tp.chat Hi --timeout 0", 2, "--timeout 0: give a number above 0"),
    ("tp.bench --concurrency 0", 2, "--concurrency 0: give a number from 1 to 256"),
    ("tp.bench --concurrency 1,,2", 2, "--concurrency 1,,2: a number is missing"),
    ("tp.bench --concurrency 2,2", 2, "--concurrency 2,2: a number is there twice"),
    ("tp.bench --prompt-tokens 1k", 2, "--prompt-tokens 1k: give a number"),
    ("tp.bench --requests 3", 2, "--requests 3: give 8 or more"),
    ("tp.bench --requests some", 2, "--requests some: give a number"),
    ("tp.bench --max-tokens 1", 2, "--max-tokens 1: give a number from 2"),
    ("tp.bench --timeout 0", 2, "--timeout 0: give a number above 0"),
    ("tp.bench --out nowhere-at-all/x.json", 2, "there is no folder nowhere-at-all"),
    ("tp.bench --compare ,", 2, "--compare ,: a name is missing"),
    ("tp.bench --compare a.json", 2, "give at least two files"),
    ("tp.bench --compare nowhere.json,b.json", 2, "--compare nowhere.json: can't be read"),
    ("tp.bench --compare README.md,b.json", 2, "--compare README.md: is no JSON"),
    ("tp.bench --compare hosts/local.json,b.json", 2, "hosts/local.json: is no run"),
    ("tp.bench --history --canary", 2, "give --history or what else is to be done, not both"),
    ("tp.bench --history", 3, "no run of tp.bench is kept here: inv tp.bench makes the first"),
    ("tp.bench --repeats 0", 2, "--repeats 0: give a number from 1"),
    ("tp.bench --compare a,b --canary", 2, "give --compare or --canary, not both"),
    ("tp.bench --record a --against b", 2, "give one of --canary-url, --record and --against"),
    ("tp.bench --against nope.json", 2, "--against nope.json: No such file"),
    ("tp.bench --against tasks.py", 2, "--against tasks.py: is no file of inv tp.bench --canary"),
    ("tp.bench --record no/such.json", 2, "--record no/such.json: there is no folder no"),
    ("tp.bench --canary-url nowhere", 2, "--canary-url nowhere: give the reference as http://"),
    ("tp.bench --canary-url https://x", 2, "give the reference as http://HOST:PORT"),
    ("tp.bench --canary-url http://x:y", 2, "give the reference as http://HOST:PORT"),
    ("tp.bench --canary-url http://a:b@x/", 2, "give the reference as http://HOST:PORT"),
    ("tp.top --interval 0", 2, "--interval 0"),
    ("tp.top --interval 1.5", 2, "--interval 1.5: give a whole number"),
    ("tp.top --count 0", 2, "--count 0: give a number of 1 or more"),
    ("tp.top --count all", 2, "--count all: give a number"),
    # rdma.*
    ("rdma.setup --node mac1", 2, "give HOST:IFACE:IP"),
    ("rdma.setup --node ''", 2, "give HOST:IFACE:IP"),
    ("rdma.setup --node :en5:10.254.0.5", 2, "--node"),
    ("rdma.setup --node mac1:en5", 2, "give HOST:IFACE:IP"),
    ("rdma.setup --node mac1:en5:10.254.0.5:x", 2, "--node"),
    ("rdma.setup --node mac1:en5:10.254.0", 2, "is no IPv4 address"),
    ("rdma.setup --node mac1:en5:fe80::1", 2, "--node"),
    ("rdma.setup --node 'mac1:en5;id:10.254.0.5'", 2, "is no interface"),
    ("rdma.setup --node 'mac1:$(touch canary):10.254.0.5'", 2, "is no interface"),
    ("rdma.setup --node 'mac1:-a:10.254.0.5'", 2, "is no interface"),
    ("rdma.setup --node 'mac1:EN5:10.254.0.5'", 2, "is no interface"),
    ("rdma.setup --node 'mac 1:en5:10.254.0.5'", 2, "--node"),
    ("rdma.setup --node '$(id):en5:10.254.0.5'", 2, "--node"),
    ("rdma.setup --node=-x:en5:10.254.0.5", 2, "--node"),
    ("rdma.setup --node mac1:en5:10.254.0.5", 2, "is alone in 10.254.0.4/30"),
    ("rdma.setup --node a:en5:10.254.0.5 --node a:en5:10.254.0.6", 2, "is there twice"),
    ("rdma.setup --node a:en5:10.254.0.5 --node b:en5:10.254.0.5", 2, "is there twice"),
    ("rdma.setup --node a:en5:10.254.0.5 --node b:en5:10.254.0.9", 2, "is alone in"),
    (
        "rdma.setup --node a:en5:10.254.0.4 --node b:en5:10.254.0.6",
        2,
        "is not an address of a host",
    ),
    ("rdma.setup --node a:en5:127.0.0.1 --node b:en5:127.0.0.2", 2, "special address"),
    ("rdma.setup --node a:en5:224.0.0.1 --node b:en5:224.0.0.2", 2, "special address"),
    ("rdma.setup --node a:en5:10.0.0.5 --node b:en5:10.0.0.6 --netmask 33", 2, "--netmask 33"),
    ("rdma.setup --node a:en5:10.0.0.5 --netmask 255.0.255.0", 2, "--netmask 255.0.255.0"),
    ("rdma.setup --node a:en5:10.0.0.5 --netmask ''", 2, "--netmask is empty"),
    ("rdma.setup --node a:en5:10.0.0.5 --netmask thirty", 2, "--netmask thirty: give a prefix"),
    ("rdma.setup --node a:en5:10.0.0.5 --hostfile hosts/local.json", 2, "not both"),
    ("rdma.setup --hostfile hosts/local.json", 2, 'no "links"'),
    ("rdma.setup --netmask 30", 2, "belong to --node"),
    ("rdma.setup --proxy a:b", 2, "belong to --node"),
    ("rdma.setup --node a:en5:10.254.0.5 --proxy b", 2, "give VIA:HOST"),
    ("rdma.setup --node a:en5:10.254.0.5 --proxy b:", 2, "give VIA:HOST"),
    ("rdma.setup --node a:en5:10.254.0.5 --proxy a:b:c", 2, "give VIA:HOST"),
    ("rdma.setup --node a:en5:10.254.0.5 --proxy a:zz", 2, "zz is in no --node"),
    ("rdma.setup --node a:en5:10.254.0.5 --node b:en5:10.254.0.6 --proxy '$(id):b'", 2, "--proxy"),
    ("rdma.setup --node a:en5:10.254.0.5 --node b:en5:10.254.0.6 --proxy=-x:b", 2, "--proxy"),
    ("rdma.setup --node", 1, "needed value"),
    ("rdma.setup --hostfile nope", 2, "nope: no such hostfile"),
    ("rdma.unbridge --node x", 2, "give HOST:IFACE:IP"),
    ("rdma.address --node x", 2, "give HOST:IFACE:IP"),
    ("rdma.devices --node x", 2, "give HOST:IFACE:IP"),
    ("rdma.devices --ask-sudo", 1, "No idea what '--ask-sudo' is!"),
    ("rdma.status --node x", 2, "give HOST:IFACE:IP"),
    ("rdma.ping --node x", 2, "give HOST:IFACE:IP"),
    ("rdma.persist --node x", 2, "give HOST:IFACE:IP"),
    ("rdma.unpersist --node x", 2, "give HOST:IFACE:IP"),
    ("rdma.undo --node x", 2, "give HOST:IFACE:IP"),
    ("rdma.undo --hosts a,b", 1, "No idea what '--hosts' is!"),
    ("rdma.undo --hostfile nope", 2, "nope: no such hostfile"),
    ("rdma.unpersist --hostfile ''", 2, "--hostfile is empty"),
    ("rdma.verify --timeout 0", 2, "--timeout 0: give a number above 0"),
    ("rdma.verify --timeout x", 2, "--timeout x"),
    ("rdma.verify --backend y", 2, "--backend y: choose one of"),
    ("rdma.discover --hosts a,a", 2, "'a' is there twice"),
    ("rdma.discover --hosts a --diff", 2, "--diff compares with --hostfile"),
    ("rdma.discover --diff --write x.json", 2, "--diff compares with --hostfile"),
    ("rdma.discover --hosts a --write ''", 2, "--write is empty"),
    ("rdma.discover --hosts a --hostfile b", 2, "not both"),
    ("rdma.topology --hosts ','", 2, "a host is empty"),
    ("rdma.topology --svg ''", 2, "--svg is empty"),
    ("rdma.topology --svg", 1, "needed value"),
    # hosts.*
    ("hosts.list --hosts a,a", 2, "'a' is there twice"),
    ("hosts.list -n x", 2, "-n x: give a number"),
    ("hosts.list --hostfile nope", 2, "nope: no such hostfile"),
    ("hosts.check --hosts ''", 2, "a host is empty"),
    ("hosts.check --python $'a\\nb'", 2, "give a path on one line"),
    ("hosts.check --hostfile a --hosts b", 2, "not both"),
    ("hosts.selftest --hosts a,a", 2, "'a' is there twice"),
    ("hosts.selftest --hosts localhost --save ''", 2, "--save is empty"),
    ("hosts.selftest --hosts localhost --save ~nobody-at-all/x", 2, "--save ~nobody-at-all/x: "),
    ("hosts.selftest --hosts localhost --save tests", 2, "is not empty: give a new folder"),
    ("hosts.selftest --hosts localhost --save /dev/null/x", 2, "/dev/null is no folder"),
    ("hosts.clean --hosts ''", 2, "a host is empty"),
    ("hosts.clean --hosts a --hostfile b", 2, "not both"),
    ("hosts.trust --hosts '$(id)'", 2, "hosts[0].ssh is not allowed"),
    ("hosts.trust --hosts=-v", 2, "hosts[0].ssh is not allowed"),
    ("hosts.trust --yes=yes", 1, "No idea what 'yes' is!"),
    ("hosts.trust --hosts a --hostfile b", 2, "not both"),
    # local.*, demo, dev.*
    ("local.up --nodes 1", 2, "--nodes 1: give a number from 2 to 6"),
    ("local.up --nodes 7", 2, "--nodes 7"),
    ("local.up --nodes x", 2, "--nodes x"),
    ("local.up --nodes ''", 2, "--nodes "),
    ("local.up --topology star", 2, "--topology star: choose one of mesh"),
    ("local.up --topology two-cables --nodes 3", 2, "it is for 2 nodes"),
    ("local.up 3", 1, "No idea what '3' is!"),
    ("local.down --force", 1, "No idea what '--force' is!"),
    ("local.fault", 1, "did not receive required positional arguments"),
    ("local.fault mac1", 1, "did not receive required positional arguments"),
    ("local.fault mac1 link_cut:en5", 2, LOCAL_UP),
    ("local.fault '../..' x", 2, LOCAL_UP),
    ("local.reboot", 1, "did not receive required positional arguments"),
    ("local.reboot '$(touch canary)'", 2, LOCAL_UP),
    ("demo --model x", 1, "No idea what '--model' is!"),
    ("demo 5", 1, "No idea what '5' is!"),
    ("dev.sync", 2, "--source"),
    ("dev.sync --source nowhere-at-all --target t", 2, "nowhere-at-all"),
    ("dev.sync --source README.md --target t", 2, "README.md"),
    ("dev.sync --source tests --target ''", 2, "--target is empty"),
    ("dev.sync --source tests --target $'a\\nb'", 2, "--target"),
    ("dev.sync --source tests --target t --exclude '[a'", 2, "--exclude '[a'"),
    ("dev.sync --source tests --target t --hosts a,a", 2, "'a' is there twice"),
    ("dev.model", 1, "did not receive required positional arguments"),
    ("dev.model ''", 2, "is empty"),
    ("dev.model m --context 0", 2, "--context 0: give a number of 1 or more"),
    ("dev.model m --context many", 2, "--context many"),
    # Invoke's own.
    ("tp.sart", 1, "No idea what 'tp.sart' is!"),
    ("tp x", 1, "No idea what 'tp' is!"),
    ("tp.start tp.stopp", 1, "No idea what 'tp.stopp' is!"),
    ("--no-such tp.status", 1, "No idea what '--no-such' is!"),
    ("-f nowhere.yaml tp.stop", 2, "-f nowhere.yaml: no such configuration file"),
]

# A configuration as YAML, and what the line must say; inv tp.stop --dry-run is run with it.
FILES: list[tuple[str, str]] = [
    ("tp: 5", "tp is wrong: give keys and values"),
    ("tp: [hostfile]", "tp is wrong"),
    ("tp:", "tp is wrong"),
    ("tp: {1: 2}", "tp.1: write the key in quotes"),
    ("tp: {yes: 2}", "tp.True: write the key in quotes"),
    ("tp: {hostfiles: x}", "tp.hostfiles is unknown: did you mean hostfile?"),
    ("tp: {hostfile: ''}", "tp.hostfile is empty"),
    ('tp: {hostfile: "a\\0b"}', "tp.hostfile 'a\\x00b': give a path on one line"),
    ("tp: {hosts: [a, a]}", "'a' is there twice"),
    ("tp: {hosts: ['$(id)']}", "hosts[0].ssh is not allowed"),
    ("tp: {hosts: [a, [b]]}", "tp.hosts is wrong"),
    ("tp: {ssh_config: nowhere}", "tp.ssh_config nowhere: no such file"),
    ("tp: {ssh_config: /}", "tp.ssh_config /: no such file"),
    ("tp: {backend: RDMA}", "config.yaml: tp.backend RDMA: choose one of jaccl, jaccl-ring, ring"),
    ("tp: {engine: mine}", "engine 'mine' is unknown"),
    ("tp: {env: {KEY: sk-secret}}", "tp.env is wrong"),
    ("tp: {env: [{KEY: sk-secret}]}", "tp.env is wrong"),
    ("tp: {env: ['KEY: sk-secret']}", "'KEY' is no NAME=value"),
    ('tp: {env: ["A=a\\0b"]}', "the value of A can't hold a NUL"),
    ('tp: {args: ["a\\0b"]}', "write it in UTF-8"),
    ("tp: {args: [--port, http]}", "--port http: write a port number"),
    ("tp: {starting_port: 65535}", "the ranks' ports would go up to 65536"),
    ("tp: {starting_port: 8000}", "--port 8000: the ranks meet there"),
    ("tp: {starting_port: 0}", "tp.starting_port 0: give a number from 1 to 65535"),
    ("tp: {engines: {mine: 5}}", "tp.engines.mine: give command"),
    ("tp: {engines: {1: {command: x}}}", "tp.engines.1: write the key in"),
    ("tp: {engines: {mine: {command: 5}}}", "tp.engines.mine.command: give a list of words"),
    ("tp: {engines: {mine: {command: []}}}", "tp.engines.mine: give command"),
    ('tp: {engines: {mine: {command: ["a\\0"]}}}', "(and no NUL)"),
    ("tp: {engines: {mine: {command: x, ready: health}}}", "give a page such as /health"),
    ("tp: {engines: {mine: {command: x, ready: 5}}}", "tp.engines.mine.ready: give text"),
    ("tp: {engines: {mine: {command: x, model: []}}}", "tp.engines.mine.model: give text"),
    ("tp: {engines: {mine: {command: x, prepare: 5}}}", "tp.engines.mine.prepare: give text"),
    ("tp: {engines: {mine: {command: x, env: 5}}}", "tp.engines.mine.env: give names and values"),
    ("tp: {engines: {mine: {command: x, env: {1A: b}}}}", "1A: is no name of a variable"),
    ("tp: {engines: {mine: {command: x, env: {A: [b]}}}}", "mine.env.A: give text, in quotes"),
    ("tp: {engines: {mine: {command: x, defaults: [a]}}}", "mine.defaults: give names and values"),
    ("tp: {engines: {mine: {command: x, process: '.*'}}}", "matches every Python process"),
    ("tp: {engines: {mine: {command: x, process: '[a'}}}", "no regular expression"),
    ("tp: {engines: {mlx-lm: {process: ''}}}", "tp.engines.mlx-lm.process: give text"),
    ("tp: {engines: {mlx-lm: {what: x}}}", "tp.engines.mlx-lm.what is unknown"),
    ("local: 5", "local is wrong: give keys and values"),
    ("local: {base: {a: b}}", "local.base is wrong"),
    ("hooks: 5", "hooks is wrong: give keys and values"),
    ("hooks: {tp.strat: {}}", "hooks.tp.strat in the configuration: no such task: did you mean tp"),
    ("hooks: {tp.stop: [sk-secret]}", "hooks.tp.stop in the configuration is wrong: give pre, pos"),
    ("hooks: {tp.stop: {pre: sk-secret}}", "hooks.tp.stop.pre in the configuration is wrong: give"),
    ("hooks: {tp.stop: {pre: [{a: sk-secret}]}}", "hooks.tp.stop.pre in the configuration is wro"),
    ("hooks: {tp.stop: {pre: ['touch canary']}}\ntp: {hostfile: nope}", "no such hostfile"),
    ("dev: [a]", "dev is wrong: give keys and values"),
]


def _of_each_key() -> Iterator[tuple[str, str]]:
    """Values of a wrong kind for every key, whatever keys there are."""
    for key, default in DEFAULTS["tp"].items():
        if isinstance(default, dict):
            values: list[Any] = [5, "x", ["a"]]
        elif isinstance(default, list):
            values = [5, {"a": "b"}, [["a"]], [{"a": "b"}]]
        elif isinstance(default, bool):
            values = ["x", "yes", 5, [], {"a": 1}]
        elif isinstance(default, (int, float)):
            values = ["x", "", -1, [], {"a": 1}, None, True, "1e3"]
        else:
            values = [5, {"a": "b"}, "a\nb", "\x1b[31m", ["$(id)"]]
        for value in values:
            yield json.dumps({"tp": {key: value}}), key


# Name and value of a variable, and what the line must say.
VARIABLES: list[tuple[str, str, str]] = [
    ("INVOKE_TP_TIMOUT", "5", "INVOKE_TP_TIMOUT is unknown: did you mean INVOKE_TP_TIMEOUT?"),
    ("INVOKE_TP_", "5", "INVOKE_TP_ is unknown: see docs/configuration.md"),
    ("INVOKE_TP_NUM_RANKS", "2", "INVOKE_TP_NUM_RANKS is unknown"),
    ("INVOKE_LOCAL_FOLDER", "x", "INVOKE_LOCAL_FOLDER is unknown"),
    ("INVOKE_TP_HOSTFILE", "nope", "nope: no such hostfile"),
    ("INVOKE_TP_HOSTFILE", "", "INVOKE_TP_HOSTFILE is empty: name a file"),
    ("INVOKE_TP_HOSTS", "a b", "hosts[0].ssh is not allowed"),
    ("INVOKE_TP_HOSTS", "$(touch canary)", "hosts[0].ssh is not allowed"),
    ("INVOKE_TP_SSH_CONFIG", "nope", "tp.ssh_config nope: no such file"),
    ("INVOKE_TP_BACKEND", "nccl", "INVOKE_TP_BACKEND nccl: MLX knows it, and it is not run here"),
    ("INVOKE_TP_ENGINE", "nope", "engine 'nope' is unknown"),
    ("INVOKE_TP_PYTHON", "a\nb", "INVOKE_TP_PYTHON 'a\\nb': give a path on one line"),
    ("INVOKE_TP_CWD", "a\x1bb", "INVOKE_TP_CWD 'a\\x1bb': give a path on one line"),
    ("INVOKE_TP_LOG_DIR", "a\nb", "INVOKE_TP_LOG_DIR 'a\\nb': give a path on one line"),
    ("INVOKE_TP_STATE_DIR", "a\nb", "INVOKE_TP_STATE_DIR 'a\\nb': give a path on one line"),
    ("INVOKE_TP_TIMEOUT", "-1", "INVOKE_TP_TIMEOUT -1: give a number above 0"),
    ("INVOKE_TP_STOP_TIMEOUT", "-1", "INVOKE_TP_STOP_TIMEOUT -1: give a number"),
    ("INVOKE_TP_KEEP_LOGS", "1.5", "INVOKE_TP_KEEP_LOGS 1.5: give a whole number from 0 to 1000"),
    ("INVOKE_TP_STARTING_PORT", "70000", "INVOKE_TP_STARTING_PORT 70000: give a number from 1 to"),
    ("INVOKE_TP_WIRED_LIMIT_GIB", "nan", "INVOKE_TP_WIRED_LIMIT_GIB nan: give a number"),
    ("INVOKE_TP_WIRED_LIMIT_GIB", "lots", "INVOKE_TP_WIRED_LIMIT_GIB lots: give a number"),
]
VARIABLES += [
    (f"INVOKE_TP_{key.upper()}", "x", f"INVOKE_TP_{key.upper()}")
    for key, default in DEFAULTS["tp"].items()
    if isinstance(default, (int, float, list, dict))
]


def _generic() -> Iterator[tuple[str, int, str]]:
    """What is wrong for every task there is: an unknown option, an option without its value."""
    for context in ns.to_contexts():
        whole = " ".join([str(context.name), *("x" for _ in context.positional_args)])
        yield f"{whole} --no-such", 1, "No idea what '--no-such' is!"
        yield f"{whole} too-much", 1, "No idea what 'too-much' is!"
        for flag, argument in context.flags.items():
            if argument.takes_value and argument not in context.positional_args:
                yield f"{whole} {flag}", 1, "needed value"
                # Only tasks of ours refuse it before they run: nothing else is tried.
                if argument.kind is not list and isinstance(ns[context.name], ClusterTask):
                    yield f"{whole} {flag} ''", 2, " is empty"


ALL = list({line: (line, code, says) for line, code, says in [*_generic(), *LINES]}.values())


@dataclass
class Local:
    """The program in this process, in a home of its own."""

    home: Path
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def __call__(self, line: str, config: str | None = None) -> Done:
        """Run `inv LINE`; whatever but an exit is what a user would see as a traceback."""
        words = ["inv", *shlex.split(_dollar_quotes(line))]
        if config is not None:
            file = self.home.parent / "config.yaml"
            file.write_text(config)
            words[1:1] = ["-f", str(file)]
        self.patch.setattr(sys, "argv", words)
        program = Program(namespace=ns, executor_class=Executor, name="inv")
        code: Any = 0
        try:
            program.run(words)
        except SystemExit as ended:
            code = ended.code
        said = self.capture.readouterr()
        return Done(int(code or 0), said.out, said.err)

    def snapshot(self) -> dict[str, Any]:
        """All that there is in the home: what a run that refuses must leave as it is."""
        return {
            str(path): (path.lstat().st_mode, path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in sorted(self.home.rglob("*"))
        }


def _dollar_quotes(line: str) -> str:
    r"""Write out $'...' with its \n, \033 and \udcff, which shlex does not know."""
    parts = line.split("$'")
    for index in range(1, len(parts)):
        inside, _, rest = parts[index].partition("'")
        text = inside.encode("ascii").decode("unicode_escape")
        parts[index] = f"'{text}'{rest}"
    return "".join(parts)


@pytest.fixture
def local(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Local:
    for name in [name for name in os.environ if name.startswith(("INVOKE_", "MLX_"))]:
        monkeypatch.delenv(name)
    (home / "tmp").mkdir()
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("TMPDIR", str(home / "tmp"))
    monkeypatch.setenv("INVOKE_TP_LOG_DIR", str(home / "logs"))
    monkeypatch.setenv("INVOKE_LOCAL_BASE", str(home / "rig"))
    # What is not refused as it should be must reach no machine, and least of all this one.
    hosts = [{"ssh": f"mac{i}", "ips": [f"10.0.0.{i}"]} for i in (1, 2)]
    (home / "hosts.json").write_text(json.dumps({"engine": "mlx-lm", "hosts": hosts}))
    (home / "ssh_config").write_text("Host *\n  ProxyCommand false\n")
    monkeypatch.setenv("INVOKE_TP_HOSTFILE", str(home / "hosts.json"))
    monkeypatch.setenv("INVOKE_TP_SSH_CONFIG", str(home / "ssh_config"))
    return Local(home, capsys, monkeypatch)


def refused(local: Local, done: Done, code: int, says: str) -> None:
    """It said one clear line, with the right exit status, and nothing else."""
    line = done.one_line()
    assert says in line
    assert line.isprintable()
    assert done.code == code
    assert not done.out
    assert "sk-secret" not in line


@pytest.mark.parametrize(("line", "code", "says"), ALL, ids=[line for line, _, _ in ALL])
def test_command_line(local: Local, line: str, code: int, says: str) -> None:
    if says == LOCAL_UP and os.geteuid():
        says = "needs root"
    before = local.snapshot()
    refused(local, local(line), code, says)
    assert local.snapshot() == before


@pytest.mark.parametrize(("config", "says"), [*FILES, *_of_each_key()])
def test_configuration(local: Local, config: str, says: str) -> None:
    local.patch.delenv(f"INVOKE_TP_{says.upper()}", raising=False)
    task = "local.down" if config.startswith("local") else "tp.stop --dry-run"
    before = local.snapshot()
    refused(local, local(task, config), 2, says)
    assert local.snapshot() == before


@pytest.mark.parametrize(("name", "value", "says"), VARIABLES)
def test_variable(local: Local, name: str, value: str, says: str) -> None:
    local.patch.setenv(name, value)
    before = local.snapshot()
    refused(local, local("tp.stop --dry-run"), 2, says)
    assert local.snapshot() == before


def test_there_are_many() -> None:
    """As many as are promised, each but once, and for every task there is."""
    lines = [line for line, _, _ in ALL]
    assert len(LINES) >= 150
    assert len(LINES) == len({line for line, _, _ in LINES})
    assert set(ns.task_names) <= {line.split()[0] for line in lines}


def _of_host(rig: Rig, host: str) -> str:
    """What a run that refuses must leave as it is: files, interfaces, and no sudo."""
    files = f"{rig.home(host)} /private/tmp /Library /etc/sudoers.d"
    skip = "-path '/private/tmp/pytest*' -prune -o -name .ssh -prune -o"
    find = f"/.rig/bin/gnu/find {files} -xdev {skip} -printf '%p %m %s %T@\\n' | sort"
    return rig.run(host, f"{find}; ifconfig -a").stdout + repr(rig.calls(host, "sudo"))


def test_nothing_is_changed_on_nodes(local: Local, macs: Callable[..., Rig]) -> None:
    """The same lines with hosts behind them that could be changed: not one of them is."""
    rig = macs()
    hosts = [
        {"ssh": name, "ips": [rig.address(name)], "links": {"en5": rig.links[name, "en5"]}}
        for name in rig.names
    ]
    file = local.home / "hosts.json"
    file.write_text(json.dumps({"engine": "mlx-lm", "hosts": hosts}))
    local.patch.setenv("INVOKE_TP_SSH_CONFIG", str(rig.ssh_config))
    before = {host: _of_host(rig, host) for host in rig.names}
    for line, code, says in LINES:
        if not line.startswith("local."):
            refused(local, local(line), code, says)
    assert {host: _of_host(rig, host) for host in rig.names} == before


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["tp.stop", "--hosts"], 1, "Flag '--hosts' needed value"),
        (["tp.start", "--env", b"A=\xff"], 2, "the value of A is no UTF-8"),
        (["tp.start", "--hostfile", b"\xff"], 2, "give a path on one line"),
        (["tp.start", "--log-dir", "\x1b[2J"], 2, "give a path on one line"),
        (["rdma.setup", "--node", "mac1:en5:x"], 2, "is no IPv4 address"),
        (["dev.model", ""], 2, "is empty"),
    ],
)
def test_for_real(inv: Inv, home: Path, words: list[str], code: int, says: str) -> None:
    line = inv(*words, code=code).one_line()
    assert says in line
    assert line.isprintable()
    assert not (home / ".mlx-tp").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"tp: [", "is no YAML"),
        (b"tp:\n\ttimeout: 5", "is no YAML"),
        (b"tp: !!python/object/apply:os.system ['touch canary']", "is no YAML"),
        (b"\xff", "can't be read"),
        (b"5", "has a value where it should have keys"),
        (b"- tp", "has a value where it should have keys"),
        (b"run: 5", "has a value where it should have keys"),
    ],
)
def test_broken_configuration(inv: Inv, home: Path, text: bytes, says: str) -> None:
    """What Invoke itself can't read: a line in place of its traceback."""
    inv.config = home / "bad.yaml"
    inv.config.write_bytes(text)
    assert says in inv("tp.stop", code=2).one_line()
    assert not list(ROOT.glob("canary"))
