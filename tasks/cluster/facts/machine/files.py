"""A folder's files on a node: names, sizes, and a checksum of what is small."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...ssh import scripts
from .. import FOLDER, Fact, Key, ToldError

DANGLING = "a link that leads nowhere"
_ROW = re.compile(r"(?:(\d+)|(\d+) (\d+)|(link)) \./(.+)")
# What find, cksum and sh say of a name, in GNU's quotes or none. GNU's find tells of loops, too:
# what macOS's takes for a link that leads nowhere, or for a folder that it has been in.
_SAID = re.compile(r"[\w/.-]+: (?:\d+: )?(?:cannot open )?'?\./(.+?)'?: (.+)")
_LOOP = "Too many levels of symbolic links"
_BEEN = "find: File system loop detected; "


def parse_listing(text: str, status: int = 0) -> dict[str, str]:
    """Name -> "SIZE CHECKSUM", "SIZE" or `DANGLING`; names are relative to the folder.

    From what facts/listing.sh prints. Sizes are in bytes.
    """
    files, name, is_loop = {}, "", False
    for line in filter(str.strip, text.split("\n")):
        row, said = _ROW.fullmatch(line), _SAID.fullmatch(line)
        if row:
            large, checksum, small, link, name = row.groups()
            files[name] = large or (DANGLING if link else f"{small} {checksum}")
        elif said and said[2] == _LOOP:
            files[said[1]], is_loop = DANGLING, True
        elif said:
            raise ToldError(f"{said[1]} in it can't be read: {said[2]}")
        elif line.startswith(_BEEN):
            is_loop = True
        elif name:
            raise ToldError(f"a file in it has a name of more than one line: {name} ...")
        else:
            raise ValueError("its files can't be listed")
    if status and not is_loop:
        raise ValueError("the folder can't be read")
    return files


def size(value: str) -> int:
    """The size in bytes that a listing tells, 0 for a link that leads nowhere."""
    return 0 if value == DANGLING else int(value.split()[0])


KEY = Key[Mapping[str, str]]("files")


def fact(folder: str, skip: Iterable[str] = ()) -> Fact[Mapping[str, str]]:
    """The files of `folder`, but for names that a pattern of `skip` fits, and what is below."""
    return Fact(
        KEY, scripts.script("facts/files.sh", skip, folder=folder), parse_files, FOLDER, is_raw=True
    )


def parse_files(text: str, status: int) -> dict[str, str]:
    return parse_listing(text, status)


@dataclass(frozen=True)
class SyncTarget:
    """Where a copy goes on a node: an absolute path without links.

    `id` is the folder's device and inode, empty where it is not there yet. `near` tells how it lies
    to folders that must not be deleted: pairs of "is", "holds" or "in" and a name of `place.sh`.
    """

    folder: str
    id: str
    has_rsync: bool
    near: tuple[tuple[str, str], ...] = ()

    @property
    def is_there(self) -> bool:
        return bool(self.id)

    @property
    def is_source(self) -> bool:
        return ("is", "source") in self.near


PLACE = Key[SyncTarget]("place")


def place(target: str, source: str, boot: str, state_dir: str = "~/.mlx-tp") -> Fact[SyncTarget]:
    """`target` is absolute or begins with `~`; `source` is where the boot's id is `boot`."""
    values = {"target": target, "source": source, "boot": boot, "state_dir": state_dir}
    return Fact(PLACE, scripts.script("facts/place.sh", **values), parse_place)


def parse_place(text: str, status: int) -> SyncTarget:
    """Rows "folder PATH" or "new PATH", "id ID", "rsync" or "none", `near`, "end" and its count."""
    rows = re.fullmatch(
        r"(?:folder (/.*)\nid (\d+:\d+)|new (/.*)\nid none)\n(rsync|none)\n"
        r"((?:(?:is|holds|in) [a-z]+\n)*)end (\d+)\n?",
        text,
    )
    if status != 0 or not rows or rows[5].count("\n") != int(rows[6]):
        raise ValueError("the target can't be used")
    folder, number, new, rsync, near, _ = rows.groups()
    pairs = (line.split() for line in near.splitlines())
    found = tuple(dict.fromkeys((how, what) for how, what in pairs))
    return SyncTarget(folder or new, number or "", rsync == "rsync", found)


BOOT = Fact(
    Key[str]("boot"),
    f"{scripts.script('prelude.sh')}printf '%s\\n' \"$tp_boot\"",
    lambda text, status: text.strip(),
)


@dataclass(frozen=True)
class Difference:
    """How a node's files differ from those that were copied; names, sorted."""

    missing: list[str]
    other: list[str]
    more: list[str]


def compare(here: Mapping[str, str], there: Mapping[str, str]) -> Difference:
    common = sorted(here.keys() & there.keys())
    return Difference(
        missing=sorted(here.keys() - there.keys()),
        other=[name for name in common if here[name] != there[name]],
        more=sorted(there.keys() - here.keys()),
    )
