"""Options that many tasks share, each with its one help text, and the task decorator for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from invoke.context import Context
from invoke.parser.argument import Argument
from invoke.tasks import Call, Task, task

from . import session as sessions
from .cli import envelope
from .cluster.errors import BadInput
from .executor import server_arguments
from .session import Options, Session

if TYPE_CHECKING:
    from .cluster.cluster import Cluster
    from .cluster.hostfile import Host
    from .cluster.links import Wiring

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
CLUSTER = (*WHAT, "keep_logs", "lock_wait")
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

    def __call__(self, c: Context | Session, *args: object, **options: object) -> object:
        return super().__call__(c.context if isinstance(c, Session) else c, *args, **options)

    def made(
        self,
        c: Context,
        session: Session,
        options: Options,
        cluster_options: Options | None = None,
    ) -> object:
        """What its body gets with these options: a cluster, or what `of` makes."""
        given = {name: options.get(name) for name in self.shared}
        if self.make is None:
            return session.cluster(given if cluster_options is None else cluster_options)
        session.check()
        return self.make(c, **given)

    def cluster_options(self, options: Options, above: Options) -> Options:
        """Its own options of a cluster over those of the task that it hangs on (`above`)."""
        own = [name for name in self.shared if self.make is None or name in CLUSTER]
        # A task that works on all hosts of a cluster does so wherever it hangs.
        fewer = "num_ranks" in self.shared
        rest = {name: value for name, value in above.items() if fewer or name != "num_ranks"}
        return {**rest, **{name: options.get(name) for name in own}}

    make: Callable[..., Any] | None
    shared: Sequence[str]

    def check(self, options: Options) -> None:
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
    what the body gets in place of a cluster. A body whose first parameter is called `session` gets
    the command's `Session`; its `dry` is what `dry_run` and `inv -R` say.
    """

    def decorate(body: Callable[..., Any]) -> Task[Any]:
        first, _, *own = inspect.signature(body).parameters.values()
        names = [*shared, *(parameter.name for parameter in own)]

        def run(c: Context, **options: Any) -> Any:
            mine = {p.name: options[p.name] for p in own if p.name in options}
            session = _session(c)
            # A task without the option is never dry, whatever Invoke is told.
            if mine.get("json"):
                envelope.begin()
            is_dry = "dry_run" in names and (options.get("dry_run") or c.config.run.dry)
            with session.at_work(c, bool(is_dry)):
                cluster = made.made(c, session, options, session.cluster_options(made, options))
                return body(session if first.name == "session" else c, cluster, **mine)

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
        made.make, made.shared = of, shared
        return cast("Task[Any]", made)

    return decorate


def _session(c: Context) -> Session:
    """The session of a task; raise BadInput where an executor that is not ours runs it."""
    session = sessions.of(c)
    if session is None:
        # Hooks would work on another cluster.
        raise BadInput(
            "our hooks need our executor: write tasks: {executor_class: tasks.executor.Executor}"
            " into the invoke.yaml beside your task file"
        )
    return session


def build(c: Context, whole: Sequence[str] | None = None, **options: Any) -> Cluster:
    """The cluster of the configuration and these options; notes are said once.

    `whole` are all of the server's arguments, in place of those that are said anywhere else.
    """
    session = sessions.of(c) or Session(server_arguments())
    with session.on(c):
        return session.build(whole, **options)


def wiring(
    c: Context,
    node: list[str] | None = None,
    proxy: list[str] | None = None,
    netmask: str | None = None,
    hostfile: str | None = None,
) -> Wiring:
    """The links that `--node` names, or those of the hostfile (`tp.hostfile` by default)."""
    from .cluster import cluster, links
    from .cluster import hostfile as hostfiles

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

    if hosts and hostfile:
        raise BadInput("give --hosts or --hostfile, not both")
    if hosts:
        return Machines(hostfiles.from_names(hosts).hosts, None)
    path = hostfile or cluster.configured(dict(c.config.get("tp", {})))
    found = {host.ssh: host for host in hostfiles.load(path).hosts}
    return Machines(tuple(found.values()), path)


# Options that are numbers, with the least that they may be; some tasks want more than that.
_NUMBERS = {
    "timeout": 0.001, "lock_wait": 0.0, "interval": 0.1, "patience": 1.0, "temperature": 0.0,
}  # fmt: skip
_COUNTS = {
    "lines": 0, "rank": 0, "max_restarts": 0, "context": 1, "max_tokens": 1, "keep_logs": 0,
    "previous": 1, "requests": 1,
}  # fmt: skip


def check(options: Options) -> None:
    """Raise BadInput for what is wrong whatever the cluster is."""
    from .cluster.cluster import count, number

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
