"""rsync's exclude patterns: what a copy leaves out; what its versions differ in is refused."""

import re
from collections.abc import Callable, Iterable

from ..errors import BadInput

_TOKENS = re.compile(r"\*\*|\*|\?|\[[!^]?[^][/\\]+\]|.", re.DOTALL)


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a file, by its path relative to the source, is left out.

    As in rsync: `*`, `?` and `[a-z]` stop at a slash, `**` does not. A pattern with a slash at its
    start is anchored at the source, with one at its end it is for folders, with one inside or with
    `**` it is held against the end of the path, else against a name. What is in a folder that is
    left out is left out too. Raise BadInput for a pattern that can't be taken.
    """
    compiled = [_compile(pattern) for pattern in patterns]

    def is_left_out(path: str) -> bool:
        parts = _octets(path).split("/")
        for end in range(1, len(parts) + 1):
            whole = "/" + "/".join(parts[:end])
            folder = end < len(parts)
            if any(e.fullmatch(whole) for e, only in compiled if folder or not only):
                return True
        return False

    return is_left_out


# Legacy rules ("- x", "+ x", "!"), escapes, classes with classes in them or without an end.
_REFUSED = re.compile(
    r"[\\\x00-\x1f\x7f]|\*\*\*|//|/$|^[-+!] |^!$|^/?$|\[[!^]?\]|\[[^]]*(\[|--)|\[[^]]*$"
)


def names(patterns: Iterable[str]) -> list[str]:
    """Those of the patterns that are for names, wherever they are: what `find -name` takes too."""
    return [each for each in patterns if "/" not in each and "**" not in each]


def _compile(pattern: str) -> tuple[re.Pattern[str], bool]:
    """The expression for "/path", and whether it is for folders only."""
    bare = pattern[:-1] if pattern.endswith("/") else pattern
    # A leading ** stands for the path so far, nothing included.
    before = "" if bare.startswith(("/", "**")) else ".*/"
    try:
        if _REFUSED.search(bare):
            raise re.error("not a pattern of ours")
        body = "".join(map(_token, _TOKENS.findall(_octets(bare))))
        return re.compile(before + body, re.DOTALL), bare != pattern
    except re.error:
        why = "give a name or a path, with *, **, ? or [a-z] in it"
        raise BadInput(f"--exclude {pattern!r}: {why}") from None


def _token(token: str) -> str:
    known = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    if len(token) < 3:
        return known.get(token, re.escape(token))
    negated = token[1] in "!^"
    inside = re.sub(r"([^\w-])", r"\\\1", token[2 if negated else 1 : -1])
    return f"(?!/)[{'^' if negated else ''}{inside}]"


def _octets(text: str) -> str:
    """A character per octet, as rsync sees names."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
