"""Options that many tasks share, each with its one help text, and the task decorator for them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from invoke.context import Context
from invoke.parser.argument import Argument as InvokeArgument
from invoke.tasks import Call, Task

from .. import moved
from .. import session as sessions
from ..cluster.config.settings import option_name
from ..cluster.config.values import Kind, Text, Words
from ..cluster.errors import BadInput
from ..session import Body, Options, Session
from . import envelope
from .arguments import ANY, ROW, SHARED, Argument, kind_of
from .executor import server_arguments
from .startup import OURS

if TYPE_CHECKING:
    from ..cluster.cluster import Cluster
    from ..cluster.config.hostfile import Host
    from ..cluster.rdma.links import LinkPlan

K = TypeVar("K", bound="OptionsTask")

HELP = {
    "num_ranks": "number of ranks: the first N hosts, or a multiple of them (several per host)",
    "skip_checks": "skip all of the preflight checks, and the cooldown",
    "skip": "skip some checks",
    "foreground": "stay attached: all ranks' lines here, no log files; Ctrl-C stops them",
    "dry_run": "print every command that would change something, and run none of those",
    "json": "print the result as one JSON document",
    "node": "one end of a link, HOST:IFACE:IP (repeat): mac1:en5:10.254.0.5; rank 0 first",
    "proxy": "reach HOST through VIA, VIA:HOST (repeat)",
    "netmask": "prefix or mask of the links' subnets with --node (default 30)",
    "verbose": "print every command that is run on a node",
    "with_": "arguments to add to those that it was started with, as one word: '--port 8001'",
    "ask_sudo": "ask once for the nodes' sudo password, where they want one",
}
TARGET_OPTIONS = ("cluster", "hostfile", "hosts", "engine")
SERVER_OPTIONS = (
    *TARGET_OPTIONS,
    "num_ranks",
    "backend",
    "fast_synch",
    "env",
    "python",
    "cwd",
    "log_dir",
)
JSON = inspect.Parameter("json", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False)
CLUSTER = (*SERVER_OPTIONS, "keep_logs", "lock_wait")
MACHINE_OPTIONS = ("hosts", "cluster", "hostfile")
LINK_OPTIONS = ("node", "proxy", "netmask", "cluster", "hostfile")


class CheckNames(Words):
    """Names of preflight's checks, ours or a user's own."""

    def read(self, value: object, where: str) -> tuple[str, ...]:
        from ..cluster.checks import CHECKS

        names = super().read(value, where)
        if wrong := sorted(set(names) - set(CHECKS)):
            raise ValueError(f"{where} {wrong[0]}: choose from {', '.join(CHECKS)}")
        return names

    def more(self) -> str:
        from ..cluster.checks import CHECKS

        checks = CHECKS.values()
        named = [f"{each.name} ({each.what})" if each.what else each.name for each in checks]
        return f": {', '.join(named)}"


class NewFolder(Text):
    """A folder that is not there yet, or is empty, so that nothing in it is mixed or lost."""

    def read(self, value: object, where: str) -> str:
        folder = super().read(value, where)
        try:
            problem = _problem(Path(folder).expanduser())
        except (OSError, RuntimeError) as error:  # of a home that nobody has
            problem = getattr(error, "strerror", None) or str(error)
        if problem:
            raise ValueError(f"{where} {folder}: {problem}")
        return folder


def _problem(folder: Path) -> str:
    if folder.is_dir() and any(folder.iterdir()):
        return "is not empty: give a new folder"
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    if not there.is_dir():
        return f"{there} is no folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} may not be written to"


Checks = Annotated[tuple[str, ...], CheckNames("CHECKS", split=True)]


class OptionsTask(Task[Body]):
    """A task whose options are typed; the short ones are ours, Invoke would make up one each."""

    parameters: Sequence[inspect.Parameter]
    kinds: dict[str, Kind | None]
    texts: Mapping[str, str]
    streams = False  # with --json a document per line

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[InvokeArgument]:
        return [self._argument(each.name, each.default) for each in self.parameters]

    def _argument(self, name: str, default: object) -> Argument:
        kind = self.kinds[name]
        if name in self.texts:
            return Argument(name, kind, default, self.texts[name])
        # Most options are of many tasks, and Invoke works on copies.
        made = _argument_once if default in (None, True, False) else _argument
        return made(name, kind, default)

    def check(self, options: Mapping[str, object]) -> None:
        """Raise BadInput for what is wrong whatever the cluster is."""
        self.typed(options)

    def typed(self, options: Mapping[str, object]) -> dict[str, object]:
        """Give the options as the body has them typed; raise BadInput for what is wrong."""
        return {name: self._typed(name, value) for name, value in options.items()}

    def _typed(self, name: str, value: object) -> object:
        kind = self.kinds.get(name)
        if isinstance(value, str) and not value.strip():
            # `--hostfile "$UNSET"` must not come to mean the configured one.
            raise BadInput(f"{option_name(name)} is empty: give a value, or leave it out")
        if kind and kind.is_list and not value:
            # Invoke has an empty list for one that is not given.
            return next((p.default or () for p in self.parameters if p.name == name), ())
        if kind is None or value is None:
            return value
        try:
            return kind.read(value, "-n" if name == "num_ranks" else option_name(name))
        except ValueError as error:
            raise BadInput(str(error)) from None

    # Invoke takes tasks of one name and one code for the same, and bodies made here share theirs.
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Task.__hash__


class ClusterTask(OptionsTask):
    """A task whose body gets the cluster that its shared options name, or what `of` makes."""

    def __call__(self, c: Context | Session, *args: object, **options: object) -> object:  # type: ignore[override]
        return super().__call__(c.context if isinstance(c, Session) else c, *args, **options)

    def made(
        self, c: Context, session: Session, options: Options, cluster_options: Options | None = None
    ) -> object:
        """What its body gets with these options: a cluster, or what `of` makes."""
        given = {name: options.get(name) for name in self.shared}
        if self.make is None:
            return session.cluster(given if cluster_options is None else cluster_options)
        session.check()
        return self.make(c, **self.typed(given))

    def cluster_options(self, options: Options, above: Options) -> Options:
        """Its own options of a cluster over those of the task that it hangs on (`above`)."""
        own = [name for name in self.shared if self.make is None or name in CLUSTER]
        # A task that works on all hosts of a cluster does so wherever it hangs.
        fewer = "num_ranks" in self.shared
        rest = {name: value for name, value in above.items() if fewer or name != "num_ranks"}
        return {**rest, **{name: options.get(name) for name in own}}

    make: Body | None
    shared: Sequence[str]


def cluster_task(
    *shared: str,
    of: Body | None = None,
    pre: Iterable[Task[Body] | Call] = (),
    post: Iterable[Task[Body] | Call] = (),
    help: Mapping[str, str] | None = None,
    name: str | None = None,
    streams: bool = False,
) -> Callable[[Body], ClusterTask]:
    """A task with the `shared` options; its body `(c, cluster, ...)` gets the cluster they name.

    The body's own parameters become options too, of the type of their annotation, with their help
    from `help` or `HELP`. `of` makes what the body gets in place of a cluster. A body whose first
    parameter is called `session` gets the command's `Session`; its `dry` is what `dry_run` and
    `inv -R` say. All have `--json`: what the body hands to `envelope.given` is in the document.
    """

    def decorate(body: Body) -> ClusterTask:
        first, _, *own = inspect.signature(body).parameters.values()
        has_dry = any(parameter.name == "dry_run" for parameter in own)
        with_json = own if any(each.name == "json" for each in own) else [*own, JSON]

        def run(c: Context, **options: object) -> object:
            session = _session(c)
            # A hook adds to the document of the task that it hangs on.
            if asked := session.asked:
                envelope.begin(asked, getattr(asked.task, "streams", False))
            mine = made.typed({p.name: options[p.name] for p in own if p.name in options})
            # A task without the option is never dry, whatever Invoke is told.
            is_dry = has_dry and (options.get("dry_run") or c.config.run.dry)
            at_work = session.at_work(c, bool(is_dry))
            with envelope.of_code(options, made.streams), at_work:
                cluster = made.made(c, session, options, session.cluster_options(made, options))
                return body(session if first.name == "session" else c, cluster, **mine)

        hooks = {"pre": list(pre), "post": list(post)}
        made = _task(ClusterTask, body, run, with_json, shared, help, name=name, **hooks)
        made.make, made.shared, made.streams = of, shared, streams
        return made

    return decorate


def options_task(help: Mapping[str, str] | None = None) -> Callable[[Body], OptionsTask]:
    """A task without a cluster; its body `(c, ...)` has options of the types of its annotations."""

    def decorate(body: Body) -> OptionsTask:
        own = list(inspect.signature(body).parameters.values())[1:]

        def run(c: Context, **options: object) -> object:
            return body(c, **made.typed(options))

        made = _task(OptionsTask, body, run, own, (), help)
        return made

    return decorate


def _task(
    klass: type[K],
    body: Body,
    run: Body,
    own: Sequence[inspect.Parameter],
    shared: Sequence[str],
    help: Mapping[str, str] | None,
    **more: Any,
) -> K:
    run.__name__, run.__doc__ = body.__name__, body.__doc__
    run.__module__ = body.__module__
    signature = _signature(shared, own)
    run.__signature__ = signature  # type: ignore[attr-defined]
    needed = [each.name for each in own if each.default is each.empty]
    made = klass(run, positional=needed, **more)
    made.parameters = list(signature.parameters.values())[1:]
    made.kinds = {p.name: kind_of(p, body.__globals__) for p in own}
    made.kinds.update((each, SHARED.get(each) or ANY) for each in shared)
    made.texts = help or {}
    return made


def _session(c: Context) -> Session:
    """The session of a task; raise BadInput where an executor that is not ours runs it."""
    session = sessions.of(c)
    if session is None:
        # Hooks would work on another cluster.
        raise BadInput(f"our hooks need our executor: {OURS}")
    return session


def build(c: Context, whole: Sequence[str] | None = None, **options: object) -> Cluster:
    """The cluster of the configuration and these options; `whole` are all of its arguments."""
    session = sessions.of(c) or Session(server_arguments())
    with session.on(c):
        return session.build(whole, **options)


def wiring(
    c: Context,
    node: list[str] | None = None,
    proxy: list[str] | None = None,
    netmask: str | None = None,
    cluster: str | None = None,
    hostfile: str | None = None,
) -> LinkPlan:
    """The links that `--node` names, or those of the hostfile (`tp.hostfile` by default)."""
    from ..cluster import cluster as clusters
    from ..cluster.config import hostfile as hostfiles
    from ..cluster.rdma import links

    if node and hostfile:
        raise BadInput("give --node or --hostfile, not both")
    if node:
        return links.from_specs(node, proxy or [], netmask or str(links.PREFIX))
    if proxy or netmask:
        raise BadInput("--proxy and --netmask belong to --node: a hostfile says gateway and links")
    path = hostfile or clusters.configured(dict(c.config.get("tp", {})), cluster)
    return links.from_hostfile(hostfiles.load(path))


@dataclass(frozen=True)
class Machines:
    """Hosts to look at, and the hostfile that names them (None where --hosts does)."""

    hosts: Sequence[Host]
    hostfile: str | None


def machines(
    c: Context,
    hosts: list[str] | None = None,
    cluster: str | None = None,
    hostfile: str | None = None,
) -> Machines:
    """The hosts of `--hosts`, else those of the hostfile."""
    from ..cluster import cluster as clusters
    from ..cluster.config import hostfile as hostfiles

    if hosts and hostfile:
        raise BadInput("give --hosts or --hostfile, not both")
    if hosts:
        return Machines(hostfiles.from_names(hosts).hosts, None)
    path = hostfile or clusters.configured(dict(c.config.get("tp", {})), cluster)
    found = {host.ssh: host for host in hostfiles.load(path).hosts}
    return Machines(tuple(found.values()), path)


def _argument(name: str, kind: Kind | None, default: object) -> Argument:
    row = ROW.get(name)
    return Argument(name, kind, default, row.help if row else HELP.get(name, ""), row)


_argument_once = cache(_argument)


@cache
def _shared(name: str) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)


def _signature(shared: Iterable[str], own: Sequence[inspect.Parameter]) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    # A parameter without a default is positional, and Python wants these first.
    positional = [each for each in own if each.default is each.empty]
    options = [_shared(each) for each in shared]
    options += [each for each in own if each not in positional]
    return inspect.Signature([inspect.Parameter("c", kind), *positional, *options])


if not TYPE_CHECKING:

    def __getattr__(name):
        return moved.renamed(__name__, name)
