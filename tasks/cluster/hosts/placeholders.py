"""Private values in what hosts said -> placeholders: the same value, the same one. Pure.

What stands for an address, a hardware address or a UUID is one too, so that parsers take it: IPv4
of documentation networks (RFC 5737, then RFC 2544), with the last octet as it was so that a subnet
stays one; IPv6 of 2001:db8::/32; hardware addresses that are locally administered. What says the
same of every machine (loopback, masks, multicast) stays.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, count

from ..facts.links.routes import little_endian

_KEPT = {"", "root", "nobody", "localhost", "/", "/root", "Shared", "Macintosh HD", "Macintosh"}
# Names that a Mac's maker gave.
_MADE = re.compile(
    r"Mac ?(mini|Studio|Pro)|MacBook( Pro| Air| Neo)?|iMac( Pro)?|thunderbolt\w*|service_\w+"
    r"|\w+_service|(Mac|iMac)\w*\d+,\d+"
)
# Kind -> where a text tells values of it.
_TOLD = {
    "user": re.compile(r"(?:/Users/|/home/|^owner +\d+ +\d{3,} )([^/\s:\"']+)", re.MULTILINE),
    "volume": re.compile(r"/Volumes/([^/\s\"]+)"),
    "serial": re.compile(r"serial[\w ]*\"? *[:=] *\"?([A-Z0-9]{6,})", re.IGNORECASE),
    "device": re.compile(r"\"(?:_name|device_name_key)\" : \"([^\"\n]+)\""),
}
_FORMS = {
    "home": "/Users/user{}",
    "user": "user{}",
    "host": "host{}",
    "volume": "Volume{}",
    "serial": "SERIAL{:06}",
    "device": "Device {}",
}
_HEX = "[0-9A-Fa-f]"
_VALUE = {
    "uuid": rf"(?<![\w-]){_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}(?![\w-])",
    "mac": rf"(?<![\w-]){_HEX}{{2}}(?:-{_HEX}{{2}}){{5}}(?![\w-])",
    "socket": r"(?<!\w)[0-9A-F]{8}(?=:[0-9A-F]{4}\b)",  # as /proc/net/tcp has it
    "colons": rf"(?<![\w:]){_HEX}*:{_HEX}*:[0-9A-Fa-f:.]*",
    "long": rf"(?<!\w){_HEX}{{32}}(?!\w)",
    "guid": rf"(?<!\w)(?:0x{_HEX}{{16}}|(?=\d*[A-Fa-f]){_HEX}{{16}}|\d{{16}}(?=[ \t]*$))(?!\w)",
    # As netstat shortens it: before a gateway and flags, else it is a version.
    "net": r"^\d{1,3}(?:\.\d{1,3}){1,2}(?:/\d{1,2})?(?=[ \t]+(?:link#\d+|[\da-f.:]+)[ \t]+[A-Z])",
    "route": r"(?<=\t)[0-9A-F]{8}(?=\t)",  # as /proc/net/route has it
    "ipv4": r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w)",
}


class Placeholders:
    """Those of one sample: all of its `texts`, whoever said them, and values known besides.

    `known` are pairs of a kind ("user", "host", "home", "volume") and a value.
    """

    def __init__(self, texts: Iterable[str], known: Iterable[tuple[str, str]] = ()) -> None:
        self._all = "\n".join(texts)
        self._made: dict[tuple[str, object], str] = {}
        self._names: dict[str, str] = {}
        for kind, value in chain(known, self._told()):
            if value not in _KEPT and not (kind == "device" and _MADE.fullmatch(value)):
                self._names.setdefault(value.lower(), kind)
        self._pattern = re.compile(self._source(), re.MULTILINE)
        self._said = "\n".join([self._all, *self._names]).lower()

    def __call__(self, text: str) -> str:
        """Give the text without its private values."""
        return self._pattern.sub(self._put, text)

    def _told(self) -> Iterator[tuple[str, str]]:
        for kind, pattern in _TOLD.items():
            yield from ((kind, found) for found in pattern.findall(self._all))

    def _source(self) -> str:
        # The longest first: a name may be part of another.
        names = sorted(map(re.escape, self._names), key=len, reverse=True)
        parts = [rf"(?P<name>(?i:(?<![^\W_])(?:{'|'.join(names)})(?![^\W_])))"] if names else []
        return "|".join([*parts, *(f"(?P<{kind}>{text})" for kind, text in _VALUE.items())])

    def _put(self, found: re.Match[str]) -> str:
        kind = found.lastgroup or ""
        put: Callable[[str], str] = getattr(self, f"_{kind}")
        return put(found.group())

    def _new(self, kind: str, value: object, form: Callable[[int], str], first: int = 1) -> str:
        """The placeholder of a value: one that nobody has said of himself."""
        if (kind, value) not in self._made:
            taken = {*self._made.values()}
            forms = (form(number) for number in count(first))
            self._made[kind, value] = next(
                each for each in forms if each not in taken and each.lower() not in self._said
            )
        return self._made[kind, value]

    def _name(self, value: str) -> str:
        kind = self._names[value.lower()]
        return self._new(kind, value.lower(), _FORMS[kind].format)

    def _uuid(self, value: str) -> str:
        return self._new("uuid", value.lower(), lambda n: f"{n:08X}-0000-4000-8000-{n:012X}")

    def _long(self, value: str) -> str:
        return self._new("long", value.lower(), lambda n: f"{(0xFD << 120) + n:032X}")

    def _mac(self, value: str) -> str:
        octets = [int(each, 16) for each in re.split("[-:]", value)]
        if set(octets) <= {0} or set(octets) == {255} or octets[0] & 1:
            return value  # none, or multicast
        # netstat leaves zeros out.
        made = self._new("mac", tuple(octets), lambda n: f"02:00:5e:10:{n >> 8:02x}:{n & 255:02x}")
        if all(len(each) == 2 for each in re.split("[-:]", value)):
            return made.replace(":", "-" if "-" in value else ":")
        return ":".join(f"{int(each, 16):x}" for each in made.split(":"))

    def _guid(self, value: str) -> str:
        if not (number := int(value, 16)):
            return value
        made = self._new("guid", number, lambda n: f"020000fffe{n:06x}")
        return f"0x{made.upper()}" if value.startswith("0x") else made

    def _colons(self, value: str) -> str:
        """An address of IPv6, a hardware address, a GUID in groups, or none of these."""
        core = value.rstrip(".")
        if re.fullmatch(rf"{_HEX}{{1,2}}(:{_HEX}{{1,2}}){{5}}:?", core):
            return self._mac(core.rstrip(":")) + value[len(core.rstrip(":")) :]
        if re.fullmatch(rf"{_HEX}{{4}}(:{_HEX}{{4}}){{3}}", core):
            made = self._guid(core.replace(":", ""))
            return ":".join(re.findall("....", made)) + value[len(core) :]
        # netstat puts the port behind a dot; a colon may end a label.
        for end in dict.fromkeys((len(core), core.rfind("."), len(core.rstrip(":")))):
            try:
                address = IPv6Address(core[: max(end, 0)])
            except ValueError:
                continue
            return self._ipv6(address, core[:end]) + value[end:]
        return value

    def _ipv6(self, address: IPv6Address, value: str) -> str:
        if address.ipv4_mapped:
            mapped = self._ipv4(str(address.ipv4_mapped))
            return f"::ffff:{mapped}"
        if address.is_multicast or int(address) <= 1 or value.lower() in ("fe80::1", "fe80::"):
            return value
        net = "fe80::" if address.is_link_local else "2001:db8::"
        made = self._new("ipv6", address, lambda n: f"{net}{n:x}", 16)
        return IPv6Address(made).exploded if len(value) == 39 else made

    def _ipv4(self, value: str) -> str:
        try:
            address = IPv4Address(value)
        except ValueError:
            return value
        first, second, third, last = address.packed
        if first in (0, 127) or first >= 224:
            return value
        if (first, second) == (169, 254):
            form: Callable[[int], str] = "169.254.{}.".format
            return self._new("net", (first, second, third), form) + str(last)
        return self._new("net", (first, second, third), _network) + str(last)

    def _net(self, value: str) -> str:
        octets, _, prefix = value.partition("/")
        words = octets.split(".")
        if value in ("128.0/1", "172.16/12", "192.168", "192.168/16", "169.254", "169.254/16"):
            return value
        whole = self._ipv4(".".join([*words, "0", "0"][:4]))
        kept = whole == ".".join([*words, "0", "0"][:4])
        return value if kept else f"{whole}/{prefix or 8 * len(words)}"

    def _socket(self, value: str) -> str:
        made = IPv4Address(self._ipv4(str(little_endian(value)))).packed
        return made[::-1].hex().upper()

    def _route(self, value: str) -> str:
        number = int(little_endian(value))
        is_mask = (~number & 0xFFFFFFFF) & ((~number & 0xFFFFFFFF) + 1) == 0
        return value if is_mask else self._socket(value)


def _network(number: int) -> str:
    """The first three octets of a network that documents may use."""
    documents = ["198.51.100.", "203.0.113.", "192.0.2."]
    if number <= len(documents):
        return documents[number - 1]
    rest = number - len(documents) - 1
    return f"198.{18 + rest // 256 % 2}.{rest % 256}."
