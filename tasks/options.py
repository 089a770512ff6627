"""Options that many tasks share, each with its one help text, and the task decorator for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from invoke.context import Context
from invoke.parser.argument import Argument
from invoke.tasks import Call, Task, task

from . import signals
from .executor import check_at_work, server_arguments

if TYPE_CHECKING:
    from .cluster.hostfile import Host

HELP = {
    "hostfile": "MLX hostfile: JSON with hosts, ips and rdma (default: tp.hostfile in invoke.yaml)",
    "hosts": "hosts instead of a hostfile: a,b or repeated; rank 0 first",
    "num_ranks": "number of ranks: the first N hosts, or a multiple of them (several per host)",
    "backend": "jaccl, jaccl-ring, ring, or any: jaccl where all hosts have rdma rows, else ring",
    "engine": "the server: mlx-lm, vllm-mlx, or one of tp.engines",
    "env": "NAME=value for every rank (repeat); on a node shown in no process list, log or record",
    "python": "python of the ranks on their nodes (an absolute path is best)",
    "cwd": "working directory of the ranks on their nodes",
    "log_dir": "folder of the logs, on each node and here (default /tmp)",
    "keep_logs": "earlier logs that each rank's node keeps (default 5)",
    "timeout": "seconds to wait",
    "skip_checks": "skip all of the preflight checks, and the cooldown",
    "skip": "skip some checks",  # which there are says SkipArgument
    "foreground": "stay attached: all ranks' lines here, no log files; Ctrl-C stops them",
    "dry_run": "print every command that would change something, and run none of those",
    "json": "print the result as one JSON document",
    "node": "one end of a link, HOST:IFACE:IP (repeat): mac1:en5:10.254.0.5; rank 0 first",
    "proxy": "reach HOST through VIA, VIA:HOST (repeat)",
    "netmask": "prefix or mask of the links' subnets with --node (default 30)",
    "verbose": "print every command that is run on a node",
    "with_": "arguments to add to those that it was started with, as one word: '--port 8001'",
    "lock_wait": "seconds to wait while another command holds the cluster (default 0: exit 3)",
    "ask_sudo": "ask once for the nodes' sudo password, where they want one",
}
WHERE = ("hostfile", "hosts", "engine")
WHAT = (*WHERE, "num_ranks", "backend", "env", "python", "cwd", "log_dir")
LINKS = ("node", "proxy", "netmask", "hostfile")
LISTS = ("hosts", "env", "skip", "node", "proxy", "exclude", "compare")


class SkipArgument(Argument):
    """`--skip`, whose help names all checks: a user's file may add some after this is imported."""

    @classmethod
    def of(cls, argument: Argument) -> Argument:
        argument.__class__ = cls
        return argument

    @property
    def help(self) -> str:
        """Imports the checks: nobody asks for it but `--help`."""
        from .cluster.checks import CHECKS

        named = [
            f"{each.name} ({each.what})" if each.what else each.name for each in CHECKS.values()
        ]
        return f"{HELP['skip']}: {', '.join(named)}"

    @help.setter
    def help(self, text: str) -> None:
        raise AttributeError("it is made from the checks")


class ClusterTask(Task[Any]):
    """A task whose only short option is `-n`: Invoke would make up one for each."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        found = super().get_arguments(ignore_unknown_help)
        return [SkipArgument.of(each) if each.name == "skip" else each for each in found]

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        opts: dict[str, Any] = super().arg_opts(name, default, taken_names)
        if name == "num_ranks":
            opts["names"] = [*opts["names"], "n"]
        return opts

    def made(self, c: Context, options: Mapping[str, Any]) -> Any:
        """What its body would get with these options: a cluster, or what `of` makes."""
        _use_ssh_config(c)
        return self.make(c, **{name: options.get(name) for name in self.shared})

    make: Callable[..., Any]
    shared: Sequence[str]

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise BadInput for what is wrong whatever the cluster is."""
        check(options)

    # Invoke takes tasks of one name and one code for the same, and bodies made here share theirs.
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Task.__hash__


def cluster_task(
    *shared: str,
    of: Callable[..., Any] | None = None,
    pre: Iterable[Task[Any] | Call] = (),
    post: Iterable[Task[Any] | Call] = (),
    help: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Task[Any]]:
    """A task with the `shared` options; its body `(c, cluster, ...)` gets the cluster they name.

    The body's own parameters become options too, with their help from `help` or `HELP`. `of` makes
    what the body gets in place of a cluster.
    """

    def decorate(body: Callable[..., Any]) -> Task[Any]:
        own = list(inspect.signature(body).parameters.values())[2:]
        names = [*shared, *(parameter.name for parameter in own)]

        def run(c: Context, **options: Any) -> Any:
            mine = {p.name: options[p.name] for p in own if p.name in options}
            check_at_work()
            with signals.watched():
                return body(c, made.made(c, options), **mine)

        run.__name__, run.__doc__ = body.__name__, body.__doc__
        run.__module__ = body.__module__
        run.__signature__ = _signature(shared, own)  # type: ignore[attr-defined]
        made: Any
        made = task(
            run,
            name=name,
            pre=list(pre),
            post=list(post),
            iterable=[each for each in names if each in LISTS],
            help={key: text for key, text in {**HELP, **(help or {})}.items() if key in names},
            auto_shortflags=False,
            klass=ClusterTask,
        )
        made.make, made.shared = of or build, shared
        return cast("Task[Any]", made)

    return decorate


def build(c: Context, whole: Sequence[str] | None = None, **options: Any) -> Any:
    """The cluster of the configuration and these options; notes are said once.

    `whole` are all of the server's arguments, in place of those that are said anywhere else.
    """
    from . import screen
    from .cluster import cluster

    config = dict(c.config.get("tp", {}))
    if whole is None:
        made = cluster.build(config, server_arguments(), **options)
    else:
        made = cluster.build(config, whole, whole=True, **options)
    for note in made.notes:
        if note not in _said:
            _said.add(note)
            screen.say(note)
    return made


def wiring(
    c: Context,
    node: list[str] | None = None,
    proxy: list[str] | None = None,
    netmask: str | None = None,
    hostfile: str | None = None,
) -> Any:
    """The links that `--node` names, or those of the hostfile (`tp.hostfile` by default)."""
    from .cluster import cluster, links
    from .cluster import hostfile as hostfiles
    from .cluster.errors import BadInput

    if node and hostfile:
        raise BadInput("give --node or --hostfile, not both")
    if node:
        return links.from_specs(node, proxy or [], netmask or str(links.PREFIX))
    if proxy or netmask:
        raise BadInput("--proxy and --netmask belong to --node: a hostfile says gateway and links")
    path = hostfile or cluster.configured(dict(c.config.get("tp", {})))
    return links.from_hostfile(hostfiles.load(path))


@dataclass(frozen=True)
class Machines:
    """Hosts to look at, and the hostfile that names them (None where --hosts does)."""

    hosts: Sequence[Host]
    hostfile: str | None


def machines(c: Context, hosts: list[str] | None = None, hostfile: str | None = None) -> Machines:
    """The hosts of `--hosts`, else those of the hostfile."""
    from .cluster import cluster
    from .cluster import hostfile as hostfiles
    from .cluster.errors import BadInput

    if hosts and hostfile:
        raise BadInput("give --hosts or --hostfile, not both")
    if hosts:
        return Machines(hostfiles.from_names(hosts).hosts, None)
    path = hostfile or cluster.configured(dict(c.config.get("tp", {})))
    found = {host.ssh: host for host in hostfiles.load(path).hosts}
    return Machines(tuple(found.values()), path)


def state_dir(c: Context) -> str:
    """Where the nodes keep their state, for tasks that know no cluster."""
    from .cluster import cluster

    return cluster.state_dir(dict(c.config.get("tp", {})))


_said: set[str] = set()


def _use_ssh_config(c: Context) -> None:
    from .cluster import cluster

    cluster.use_ssh_config(dict(c.config.get("tp", {})))


# Options that are numbers, with the least that they may be; some tasks want more than that.
_NUMBERS = {
    "timeout": 0.001, "lock_wait": 0.0, "interval": 0.1, "patience": 1.0, "temperature": 0.0,
}  # fmt: skip
_COUNTS = {
    "lines": 0, "rank": 0, "max_restarts": 0, "context": 1, "max_tokens": 1, "keep_logs": 0,
    "previous": 1, "requests": 1,
}  # fmt: skip


def check(options: Mapping[str, Any]) -> None:
    """Raise BadInput for what is wrong whatever the cluster is."""
    from .cluster.cluster import count, number
    from .cluster.errors import BadInput

    for name, value in options.items():
        option = f"--{name.rstrip('_').replace('_', '-')}"
        if value == "":
            # `--hostfile "$UNSET"` must not come to mean the configured one.
            raise BadInput(f"{option} is empty: give a value, or leave it out")
        if value is not None and name in _NUMBERS:
            number(value, option, _NUMBERS[name])
        if value is not None and name in _COUNTS:
            count(value, option, _COUNTS[name])
    if options.get("skip"):
        _check_skip(items(options["skip"]))


def _check_skip(names: Iterable[str]) -> None:
    from .cluster.checks import CHECKS
    from .cluster.errors import BadInput

    wrong = sorted(set(names) - set(CHECKS))
    if wrong:
        raise BadInput(f"--skip {wrong[0]}: choose from {', '.join(CHECKS)}")


def _signature(shared: Iterable[str], own: list[inspect.Parameter]) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    # A parameter without a default is positional, and Python wants these first.
    positional = [each for each in own if each.default is each.empty]
    options = [inspect.Parameter(each, kind, default=None) for each in shared]
    options += [each for each in own if each not in positional]
    return inspect.Signature([inspect.Parameter("c", kind), *positional, *options])


def items(value: list[str] | None) -> list[str]:
    """A list option as words: `--skip a,b --skip c` is a, b, c."""
    return [word.strip() for each in value or [] for word in each.split(",") if word.strip()]
