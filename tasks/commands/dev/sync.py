"""Acting and telling for inv dev.sync: read, copy to all nodes at once, compare."""

import posixpath
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...cli import envelope, screen
from ...cluster.checks.finding import more
from ...cluster.cluster import Site
from ...cluster.config.hostfile import Host
from ...cluster.config.settings import DevSettings, read
from ...cluster.errors import ActionFailed, BadInput, CheckFailed, Unreachable
from ...cluster.facts import Fact, Unknown, known
from ...cluster.facts.machine import files
from ...cluster.facts.machine.files import SyncTarget
from ...cluster.facts.machine.memory import format_bytes
from ...cluster.facts.snapshot import Snapshot
from ...cluster.server import fence, snapshots
from ...cluster.ssh import nodes
from ...cluster.ssh.node import Node
from ...cluster.sync import excludes, rsync
from ...cluster.sync.rsync import Copy, CopyProgress
from ...cluster.text import counted, few, one_line
from ...session import Session

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

MANY = 100, 1_000_000_000  # files, and bytes, that --delete deletes on a node without asking
LIST_TIMEOUT = 600  # seconds to list a folder and read what is small in it
LOCAL = Host("127.0.0.1")

SyncRow = tuple[str, str, str]
Doomed = Mapping[str, Mapping[str, int]]  # node -> name -> bytes of what --delete would delete
Tell = Callable[[str, CopyProgress], None]


def wanted(
    config: Mapping[str, object],
    source: str | None = None,
    target: str | None = None,
    exclude: Sequence[str] = (),
    delete: bool = False,
    state_dir: str = "~/.mlx-tp",
    has_options: bool = True,
) -> Copy:
    """The copy that options, and where they are silent `dev` in the configuration, ask for.

    Without `has_options` who asks has no such options: only the configuration can say it.
    """
    try:
        settings = read(DevSettings, config)
    except ValueError as error:
        raise BadInput(str(error)) from None
    source, target = source or settings.source, target or settings.target
    for name, value in (("source", source), ("target", target)):
        if not value:
            option = f"--{name} DIR, or " if has_options else ""
            raise BadInput(f"give {option}dev.{name} in invoke.yaml")
    patterns = (*settings.exclude, *exclude)
    excludes.matcher(patterns)
    return Copy(_folder(str(source)), _from_home(str(target)), patterns, delete, state_dir)


def _folder(source: str) -> str:
    folder = Path(source).expanduser().resolve()
    if folder.is_dir():
        return str(folder)
    wrong = "is a file, not a" if folder.exists() else "no such"
    raise BadInput(f"--source {source}: {wrong} folder here")


def _from_home(target: str) -> str:
    """A relative target is in the home of the user on the node."""
    if target.startswith("~") and target != "~" and not target.startswith("~/"):
        raise BadInput(f"--target {target}: give a path of the node's user, such as ~/folder")
    if ".." in target.split("/"):
        # What it leads to depends on links, and on what is not there yet.
        raise BadInput(f"--target {target}: give a path without ..")
    return posixpath.normpath(target if target.startswith(("/", "~")) else f"~/{target}")


def run(session: Session, hosts: Sequence[Host], copy: Copy, yes: bool = False) -> None:
    """Copy to all nodes at once, compare, and say it; raise unless all nodes hold the same.

    A node that fails is said, and the others are still done. Who deletes has the cluster's lock;
    where much would be deleted it is shown, and asked for unless `yes`: before, since nobody else
    should wait for an answer.
    """
    if not shutil.which("rsync"):
        raise CheckFailed("rsync is not installed here; nothing was changed")
    here, boot = _here(session, copy)
    site, deletes = session.site(hosts), copy.delete and not session.dry
    asked = _asked(site, copy, here, boot) if deletes and not yes else None
    what = "dev.sync --delete"
    with session.lock.held(site, what, session.say) if deletes else nullcontext():
        _sync(session, site, copy, here, boot, asked)


def _sync(
    session: Session,
    site: Site,
    copy: Copy,
    here: Mapping[str, str],
    boot: str,
    asked: Doomed | None,
) -> None:
    rows, places = _places(site, copy, boot)
    held = fence.of(site) if copy.delete else None
    copy = replace(copy, hold=held.hold, fence=f"{site.folder}/fence") if held else copy
    targets = [node for node in site.nodes if node.name in places]
    with rsync.ssh_config(targets) as config:
        work = _Work(copy, places, config, here)
        if asked is not None:
            _hold_to(asked, work.doomed(targets))
        rows += work.show(targets) if session.dry else work.do(targets)
    _tell(site, rows)
    _raise(rows)


def _tell(site: Site, rows: list[SyncRow]) -> None:
    order = [node.name for node in site.nodes]
    rows.sort(key=lambda row: order.index(row[1]))
    if not envelope.given({"rows": [{"host": n, "state": s, "what": w} for s, n, w in rows]}):
        screen.table(rows)
    if all(node.host.is_local for node in site.nodes):
        screen.say("warn: only this machine was reached: name your nodes: --hosts, or tp.hostfile")


def _places(site: Site, copy: Copy, boot: str) -> tuple[list[SyncRow], dict[str, SyncTarget]]:
    """Where the copy goes on each node, and rows of those where it can't; raise if it may not."""
    where = files.place(copy.target, copy.source, boot, copy.state_dir)
    read = snapshots.of_site(site, lambda node: [where])
    _refuse(copy, read)
    rows = [("not reached", node, f"{why}: {fix}") for node, (why, fix) in read.unreachable.items()]
    return rows, {node: place for node in read.nodes if (place := _usable(read, node, rows))}


def _asked(site: Site, copy: Copy, here: Mapping[str, str], boot: str) -> Doomed:
    """What --delete would delete: shown where it is much, and asked for."""
    _, places = _places(site, copy, boot)
    targets = [node for node in site.nodes if node.name in places]
    doomed = _Work(copy, places, "", here).doomed(targets)
    _ask(doomed)
    return doomed


def _much(doomed: Doomed) -> Doomed:
    return {
        node: sizes
        for node, sizes in doomed.items()
        if len(sizes) > MANY[0] or sum(sizes.values()) > MANY[1]
    }


def _ask(doomed: Doomed) -> None:
    """Show what would be deleted, where it is much, and ask; raise unless it is wanted."""
    much = _much(doomed)
    for node, sizes in much.items():
        some = ", ".join(map(one_line, sorted(sizes)[:5]))
        what = f"{counted(len(sizes), 'file')} ({format_bytes(sum(sizes.values()))})"
        screen.say(f"{node}: --delete would delete {what}: {some}{more(range(len(sizes) - 4))}")
    if not much:
        return
    if not sys.stdin.isatty():
        raise BadInput("there is no terminal to ask on: see it with --dry-run, then add --yes")
    if not screen.is_agreed(f"delete {'it' if len(much) == 1 else 'all of it'}"):
        raise CheckFailed("nothing was changed")


def _hold_to(asked: Doomed, doomed: Doomed) -> None:
    """Raise where by now much would be deleted that was not there when it was asked for."""
    for node, sizes in _much(doomed).items():
        if new := sorted(sizes.keys() - asked.get(node, {}).keys()):
            what = f"--delete would delete more than was asked for: {one_line(few(new))}"
            raise CheckFailed(f"{node}: {what}; nothing was changed")


def _raise(rows: Sequence[SyncRow]) -> None:
    lost = [node for word, node, _ in rows if word == "not reached"]
    failed = [f"{node}: {what}" for word, node, what in rows if word == "fail"]
    if lost:
        raise Unreachable(f"{', '.join(lost)}: can't be reached, see above")
    if failed:
        raise ActionFailed(failed[0])


def _here(session: Session, copy: Copy) -> tuple[dict[str, str], str]:
    """What is to be copied: name -> size and checksum; and the id of this machine's boot."""
    wanted: list[Fact[object]] = [_listing(copy, copy.source), files.BOOT]
    with session.waiting.part(f"listing {copy.source}"):
        read = snapshots.read(session.nodes([LOCAL]), lambda node: wanted, LIST_TIMEOUT)
    listed = read.on(LOCAL.ssh).get(files.KEY)
    if listed is None or isinstance(listed, Unknown):
        why = listed.why if listed else "no answer"
        raise CheckFailed(f"{copy.source}: {why}; nothing was changed")
    if not (found := _kept(copy, listed)):
        raise BadInput(f"--source {copy.source}: there is nothing in it to copy")
    return found, known(read.on(LOCAL.ssh), files.BOOT.key) or "unknown"


def _listing(copy: Copy, folder: str) -> Fact[Mapping[str, str]]:
    # What is left out by its name is not even read: it may be a whole .venv.
    return files.fact(folder, excludes.names(copy.exclude))


def _kept(copy: Copy, listed: Mapping[str, str]) -> dict[str, str]:
    """The files that the patterns do not leave out."""
    left_out = excludes.matcher(copy.exclude)
    return {name: value for name, value in listed.items() if not left_out(name)}


# What place.sh compares a target with.
_KEPT = {
    "home": "the user's home",
    "root": "all files",
    "tmp": "/tmp",
    "state": "what these tasks keep there",
    "store": "Hugging Face's cache",
    "models": "all models of another tool",
}


def _refuse(copy: Copy, read: Snapshot) -> None:
    """Raise where the copy could delete what nobody meant, before anything is changed."""
    for node in read.nodes:
        place = known(read.on(node), files.PLACE)
        for how, what in place.near if place else ():
            where = place.folder if place else ""
            if what == "source" and how != "is":
                raise CheckFailed(f"{node}: {copy.source} and {where} are within one another here")
            if copy.delete and what in _KEPT:
                harm = f"would delete {'in ' if how == 'in' else ''}{_KEPT[what]}"
                why = f"--delete in {where} {harm}: give a folder of its own"
                raise CheckFailed(f"{node}: {why}; nothing was changed")


def _usable(read: Snapshot, node: str, rows: list[SyncRow]) -> SyncTarget | None:
    """Where the copy goes on a node; a row says why it can't."""
    place, state = read.on(node).get(files.PLACE), read.state(node)
    if isinstance(place, Unknown):
        rows.append(("fail", node, place.why))
    elif state and state.unwritten:  # of who deletes; sync.sh asks for it
        why = "the number of this command can't be kept there, and so nothing deleted"
        rows.append(("fail", node, f"{why}: {state.unwritten}"))
    elif place and not place.has_rsync:
        rows.append(("fail", node, "rsync is not installed there"))
    else:
        return place
    return None


@dataclass(frozen=True)
class _Work:
    """One copy to many nodes; `here` are the files to be copied."""

    copy: Copy
    places: Mapping[str, SyncTarget]
    ssh_config: str
    here: Mapping[str, str]

    def do(self, targets: Sequence[Node]) -> list[SyncRow]:
        """Copy, then read what the nodes hold; a row for each node."""
        sizes = self._sizes
        total = format_bytes(sum(sizes.values()))
        screen.say(
            f"{self.copy.source}: {counted(len(sizes), 'file')} ({total}) to {_nodes(targets)}"
        )
        with closing(rsync.Runs()) as runs, _shown(sum(sizes.values())) as tell:
            done = nodes.each(targets, lambda node: self._run(node, runs, tell))
        good = [node for node in targets if done[node.name][1] is None]
        read = snapshots.read(good, self._listing, LIST_TIMEOUT)
        return [self._row(node.name, *done[node.name], read) for node in targets]

    def show(self, targets: Sequence[Node]) -> list[SyncRow]:
        """Print the commands; rows of what they would send and delete."""
        rows: list[SyncRow] = []
        with closing(rsync.Runs()) as runs:
            done = nodes.each(targets, lambda node: self._run(node, runs, _silent, dry=True))
        for node in targets:
            if not self.places[node.name].is_source:
                folder = self.places[node.name].folder
                screen.out(f"# {node.name}: {folder}\n{self._command(node)}")
            seen, failure = done[node.name]
            rows += [("fail", node.name, failure)] if failure else []
            rows += [("send", node.name, name) for name in seen.sent]
            rows += [("delete", node.name, name) for name in seen.deleted]
        return rows

    def doomed(self, targets: Sequence[Node]) -> dict[str, dict[str, int]]:
        """Node -> name -> bytes of what is there and not here; raise where that can't be told."""
        of = {node: self.places[node.name] for node in targets}
        there = [node for node, place in of.items() if place.is_there and not place.is_source]
        read, found = snapshots.read(there, self._listing, LIST_TIMEOUT), {}
        for node in there:
            if error := read.on(node.name).lacks(files.KEY):
                what = "what --delete would delete can't be told"
                raise CheckFailed(f"{node.name}: {what}: {error.why}; nothing was changed")
            listed = _kept(self.copy, read.on(node.name)[files.KEY])
            names = files.compare(self.here, listed).more
            found[node.name] = {name: files.size(listed[name]) for name in names}
        return found

    @property
    def _sizes(self) -> dict[str, int]:
        return {name: files.size(value) for name, value in self.here.items()}

    def _command(self, node: Node, dry: bool = False) -> str:
        place = self.places[node.name]
        return rsync.command(self.copy, node, place, self.ssh_config, dry)

    def _listing(self, node: Node) -> list[Fact[object]]:
        return [_listing(self.copy, self.places[node.name].folder)]

    def _run(
        self, node: Node, runs: rsync.Runs, tell: Tell, dry: bool = False
    ) -> tuple[CopyProgress, str | None]:
        """Run rsync for a node: what it did, and why it failed."""
        seen = CopyProgress(self._sizes)
        if self.places[node.name].is_source:
            return seen, None
        if dry and not self.places[node.name].is_there:
            seen.sent += sorted(self.here)
            return seen, None

        def line(text: str) -> None:
            seen.line(text)
            tell(node.name, seen)

        status = runs.run(self._command(node, dry), line)
        taken = fence.refusal(seen.complaints[:1])
        failure = taken or (seen.complaints[0] if seen.complaints else rsync.ended(status))
        return seen, failure if status else None

    def _row(self, node: str, seen: CopyProgress, failure: str | None, read: Snapshot) -> SyncRow:
        """What was done on a node, and whether it now holds what is here."""
        if failure:
            return "fail", node, failure
        if node in read.unreachable:
            return "not reached", node, ": ".join(read.unreachable[node])
        if error := read.on(node).lacks(files.KEY):
            return "fail", node, f"what is there now can't be compared: {error.why}"
        listed = read.on(node)[files.KEY]
        differ = files.compare(self.here, _kept(self.copy, listed))
        if differ.missing:
            return "fail", node, f"missing there: {few(differ.missing)}"
        dangling = [name for name in differ.other if listed[name] == files.DANGLING]
        if set(differ.other) - set(dangling):
            return "fail", node, f"not as here: {few(differ.other)} (changed meanwhile?)"
        return _good(node, seen, len(self.here), dangling, differ.more)


def _good(
    node: str, seen: CopyProgress, count: int, dangling: list[str], more: list[str]
) -> SyncRow:
    sent = (
        f"{counted(len(seen.sent), 'file')} sent ({format_bytes(seen.total)})"
        if seen.sent
        else "unchanged"
    )
    deleted = f", {len(seen.deleted)} deleted" if seen.deleted else ""
    what = f"{sent}{deleted}; {counted(count, 'file')} there as here"
    if dangling:
        return "warn", node, f"{what}, but links lead nowhere: {few(dangling)}"
    if more:
        return ("warn", node, f"{what}, but more than here: {few(more)} (--delete would remove it)")
    return "ok", node, what


def _nodes(targets: Sequence[Node]) -> str:
    return targets[0].name if len(targets) == 1 else f"{len(targets)} nodes"


def _silent(node: str, seen: CopyProgress) -> None:
    pass


@contextmanager
def _shown(total: int) -> Iterator[Tell]:
    """How far each node is: bars on a terminal, else a line every 10 seconds."""
    if not screen.is_colourful(sys.stderr):
        yield _PlainProgress(total)
        return
    with screen.shown(), _bars() as bars:
        tasks: dict[str, TaskID] = {}

        def tell(node: str, seen: CopyProgress) -> None:
            if node not in tasks:
                tasks[node] = bars.add_task(node, total=total, file="")
            file = one_line(seen.sent[-1]) if seen.sent else ""
            bars.update(tasks[node], completed=seen.bytes, file=file)

        yield tell


def _bars() -> "Progress":
    import rich.progress as progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TextColumn("{task.fields[file]}", markup=False),
    )
    return progress.Progress(*columns, console=Console(stderr=True), transient=True)


class _PlainProgress:
    """A sign of life of each node every 10 seconds."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.spoke: dict[str, float] = {}

    def __call__(self, node: str, seen: CopyProgress) -> None:
        now = time.monotonic()
        if seen.sent and now - self.spoke.setdefault(node, now) > 10:
            self.spoke[node] = now
            done = f"{format_bytes(seen.bytes)} of at most {format_bytes(self.total)}"
            screen.say(f"{node}: {done}, {seen.sent[-1]}")
