"""What has moved since a hostfile (its JSON) was written: names and addresses change. Pure."""

from collections.abc import Sequence
from itertools import combinations

from ..config.hostfile import HostEntry, HostfileData
from .discover import ends
from .links import pairs


def diff(old: HostfileData, new: HostfileData) -> list[str]:
    """What has moved between two hostfiles, a line each; empty if nothing has."""
    before, after = _pairs(old), _pairs(new)
    lines = _diff_hosts(old, new)
    for pair in dict.fromkeys([*before, *after]):
        lines += _diff_pair(pair, before.get(pair, []), after.get(pair, []))
    return lines + _diff_addresses(old, new)


def merged(old: HostfileData, new: HostfileData) -> HostfileData:
    """`new` with what people have written into the hostfile `old`: engine, model, python, envs."""
    entries = {entry["ssh"]: entry for entry in old["hosts"]}
    envs = list(old.get("envs", []))
    chosen = {pair.partition("=")[0] for pair in envs}
    envs += [pair for pair in new["envs"] if pair.partition("=")[0] not in chosen]
    both = old.copy()
    both.update(new)
    both["envs"] = envs
    both["hosts"] = [_merged(entries.get(each["ssh"], each), each) for each in new["hosts"]]
    return both


def _merged(old: HostEntry, new: HostEntry) -> HostEntry:
    both = old.copy()
    # These are found anew, and what is no longer there must not come back.
    both.pop("ips", None)
    both.pop("rdma", None)
    both.pop("links", None)
    both.update(new)
    return both


def _pairs(hostfile: HostfileData) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Two hosts (in the order of their names) -> the interfaces of each cable between them."""
    cells = _link_cells(hostfile) or _rdma_cells(hostfile["hosts"])
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for (one, a), (two, b) in cells:
        names = ((one, two), (a, b)) if one < two else ((two, one), (b, a))
        found.setdefault(names[0], []).append(names[1])
    return found


_Cell = tuple[tuple[str, str], tuple[str, str]]


def _link_cells(hostfile: HostfileData) -> list[_Cell]:
    return [
        ((one.host, one.interface), (two.host, two.interface))
        for one, two in pairs(ends(hostfile))
        if one.host != two.host
    ]


def _rdma_cells(entries: Sequence[HostEntry]) -> list[_Cell]:
    """For a hostfile without "links": its RDMA devices are named after the interfaces."""
    return [
        ((one["ssh"], a), (two["ssh"], b))
        for (i, one), (j, two) in combinations(enumerate(entries), 2)
        if one.get("rdma") and two.get("rdma")
        for a, b in zip(_interfaces(one["rdma"][j]), _interfaces(two["rdma"][i]), strict=False)
    ]


def _interfaces(cell: str | list[str] | None) -> list[str]:
    names = cell if isinstance(cell, list) else [cell] if cell else []
    return [name.removeprefix("rdma_") for name in names]


def _diff_pair(
    pair: tuple[str, str], before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]
) -> list[str]:
    old = [each for each in before if each not in after]
    new = [each for each in after if each not in before]
    lines = []
    for was, now in zip(old, new, strict=False):
        for side in (0, 1):
            if was[side] != now[side]:
                host, peer = pair[side], pair[1 - side]
                lines.append(f"{host}: {was[side]} is now {now[side]} (to {peer})")
    name = "-".join(pair)
    lines += [f"the cable {name} is gone ({' to '.join(each)})" for each in old[len(new) :]]
    return lines + [f"new cable {name} ({' to '.join(each)})" for each in new[len(old) :]]


def _diff_hosts(old: HostfileData, new: HostfileData) -> list[str]:
    before, after = ([entry["ssh"] for entry in each["hosts"]] for each in (old, new))
    lines = [f"{host} is no longer among the hosts" for host in before if host not in after]
    lines += [f"{host} is new" for host in after if host not in before]
    if {*before} == {*after} and before != after:
        lines.append(f"the ranks are now {', '.join(after)} (were {', '.join(before)})")
    was, now = old.get("backend", ""), new.get("backend", "")
    return lines + ([f"the backend is now {now} (was {was})"] if was and was != now else [])


def _diff_addresses(old: HostfileData, new: HostfileData) -> list[str]:
    was = {entry["ssh"]: entry for entry in old["hosts"]}
    lines = []
    for entry in new["hosts"]:
        before = was.get(entry["ssh"], entry)
        for name, address in entry.get("links", {}).items():
            had = before.get("links", {}).get(name, address)
            if had != address:
                lines.append(f"{entry['ssh']}: {name} gets {address} (had {had})")
        if before.get("ips", entry["ips"]) != entry["ips"]:
            now, had = ", ".join(entry["ips"]), ", ".join(before["ips"]) or "none"
            lines.append(f"{entry['ssh']}: its ips are now {now} (were {had})")
    return lines
