"""Which commands a shell script runs, and with which words: read from its text, not by running it.

Enough of a shell's grammar for our own scripts. A word's expansions become a HOLE. What runs on
Linux alone is marked by a comment `# linux`: at the end of a command's line (where the same command
comes twice, the first), or of the line with the `then`, `else`, `do`, `{` or pattern that opens a
branch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rig.mac.getopts import HOLE

MARK = re.compile(r"#\s*linux\b")
KEYWORD = re.compile(
    r"(if|then|elif|else|fi|while|until|do|done|for|case|esac|[{}!])(?![^\s;&|()<>])"
)


@dataclass(frozen=True)
class Invocation:
    """A command as the script has it; `linux` where a Mac never comes by."""

    line: int
    words: tuple[str, ...]
    linux: bool = False


def invocations(text: str, first: int = 1) -> list[Invocation]:
    """Give all commands of a script, those in `$(...)` too, in the order of their lines."""
    script = _Script(text, first)
    while script.at < len(text):
        script.commands()
    found, seen = [], set()
    for line, words, opened in sorted(script.found, key=lambda each: each[0]):
        # Of `stat -c ... || stat -f ...` on one line the first is Linux's.
        own = line in script.marked and (line, words[0]) not in seen
        seen.add((line, words[0]))
        branch = script.marked & {*opened} - {line}
        found.append(Invocation(line, words, own or bool(branch)))
    return found


def functions(text: str) -> set[str]:
    """Give the names of the functions that a script defines."""
    return set(re.findall(r"(?:^|[;{&|]\s*|\s)(\w+)\(\) *[{(]", text, re.MULTILINE))


class _Script:
    """A cursor on the text: `found` has (line, words, lines that opened its branches)."""

    def __init__(self, text: str, line: int) -> None:
        self.text, self.at, self.line = text, 0, line
        self.found: list[tuple[int, tuple[str, ...], tuple[int, ...]]] = []
        self.marked: set[int] = set()
        self.opened: list[int] = []
        self.heredocs: list[tuple[str, bool]] = []

    def commands(self, *stops: str) -> str:
        """Read commands up to one of the `stops` (`)`, `;;` or keywords), and give that."""
        while self.at < len(self.text):
            self._blanks()
            keyword = KEYWORD.match(self.text, self.at)
            stop = keyword[0] if keyword else self.text[self.at : self.at + 2]
            stop = stop if stop in stops else self._peek()
            if stop in stops:
                self.at += len(stop)
                return stop
            if not self._separator():
                self._command(keyword)
        return ""

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _next(self) -> str:
        char = self._peek()
        self.at += 1
        self.line += char == "\n"
        return char

    def _blanks(self) -> None:
        """Pass over blanks, joined lines and comments; a comment's mark is kept."""
        while self._peek() and self._peek() in " \t\\#":
            if self._peek() == "#":
                end = (self.text + "\n").index("\n", self.at)
                if MARK.match(self.text[self.at : end]):
                    self.marked.add(self.line)
                self.at = end
            elif self._peek() == "\\":
                if not self.text.startswith("\\\n", self.at):
                    return
                self._next(), self._next()
            else:
                self.at += 1

    def _separator(self) -> bool:
        if self._peek() == "\n":
            self._next()
            for end, strips in self.heredocs:
                self._skip_heredoc(end, strips)
            self.heredocs.clear()
            return True
        if self._peek() and self._peek() in ";&|":
            self.at += 1
            return True
        return False

    def _skip_heredoc(self, end: str, strips: bool) -> None:
        while self.at < len(self.text):
            line, _, _ = self.text[self.at :].partition("\n")
            self.at += len(line) + 1
            self.line += 1
            if (line.lstrip("\t") if strips else line) == end:
                return

    def _command(self, keyword: re.Match[str] | None) -> None:
        """Read a compound command as far as it goes, or a simple one."""
        if keyword:
            self.at += len(keyword[0])
            self._compound(keyword[0])
        elif self._peek() in ("(", ")"):
            opens = self._next() == "("
            if opens:
                self._branch(")")
        else:
            self._simple()

    def _compound(self, keyword: str) -> None:
        if keyword == "if":
            stop = "elif"
            while stop in ("elif", "else"):
                if stop == "elif":
                    self.commands("then")
                stop = self._branch("elif", "else", "fi")
        elif keyword in ("while", "until"):
            self.commands("do")
            self._branch("done")
        elif keyword == "for":
            self._words()
            self.commands("do")
            self._branch("done")
        elif keyword == "case":
            self._case()
        elif keyword == "{":
            self._branch("}")

    def _case(self) -> None:
        self._word()
        self._words()
        while self.at < len(self.text):
            self._gap()
            keyword = KEYWORD.match(self.text, self.at)
            if keyword and keyword[0] == "esac":
                self.at += len("esac")
                return
            while self._peek() and self._peek() != ")":
                if not self._word():
                    self._next()
            self.at += 1
            if self._branch(";;", "esac") == "esac":
                return

    def _gap(self) -> None:
        """Pass over blanks, comments and ends of lines."""
        self._blanks()
        while self._peek() in ("\n", "("):
            if not self._separator():
                self._next()
            self._blanks()

    def _branch(self, *stops: str) -> str:
        self.opened.append(self.line)
        stop = self.commands(*stops)
        self.opened.pop()
        return stop

    def _simple(self) -> None:
        line, words = self.line, self._words()
        if self.text.startswith("()", self.at) and len(words) == 1:
            self.at += 2
            return
        while words and re.match(r"[A-Za-z_]\w*=", words[0]):
            words.pop(0)
        if words:
            self.found.append((line, tuple(words), tuple(self.opened)))

    def _words(self) -> list[str]:
        """Read words up to what ends a command; redirections are no words."""
        words: list[str] = []
        while True:
            self._blanks()
            char = self._peek()
            if not char or char in "\n;&|()":
                return words
            if char in "<>":
                self._redirection()
                continue
            start = self.at
            word = self._word()
            if self.at == start:
                self._next()  # a lone backslash at the end
            elif not (word.isdigit() and self._peek() and self._peek() in "<>"):
                words.append(word)

    def _redirection(self) -> None:
        kind = re.compile(r"<<-?|[<>][>&|]?").match(self.text, self.at)
        assert kind
        self.at = kind.end()
        self._blanks()
        target = self._word()
        if kind[0].startswith("<<"):
            self.heredocs.append((target, kind[0].endswith("-")))

    def _word(self) -> str:
        self._blanks()
        text = ""
        while self._peek() and self._peek() not in " \t\n;&|()<>":
            text += self._piece()
        return text

    def _piece(self) -> str:
        """Read a quoted part, an expansion or a character."""
        char = self._next()
        if char == "'":
            start = self.at
            while self._peek() and self._next() != "'":
                pass
            return self.text[start : self.at - 1]
        if char == '"':
            return self._double()
        if char == "\\":
            follows = self._next()
            return "" if follows == "\n" else follows
        if char in "$`":
            return self._expansion(char)
        return char

    def _double(self) -> str:
        text = ""
        while self._peek() and self._peek() != '"':
            char = self._next()
            if char == "\\" and self._peek() and self._peek() in '$`"\\\n':
                char = self._next()
                text += "" if char == "\n" else char
            else:
                text += self._expansion(char) if char in "$`" else char
        self._next()
        return text

    def _expansion(self, char: str) -> str:
        """Pass over what a `$` or backquote begins; the commands in it are found too."""
        if char == "`":
            self._backquoted()
        elif self.text.startswith("((", self.at):
            self._balanced("((", "))")
        elif self._peek() == "(":
            self.at += 1
            self._branch(")")
        elif self._peek() == "{":
            self._balanced("{", "}")
        else:
            name = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]").match(self.text, self.at)
            if not name:
                return char
            self.at = name.end()
        return HOLE

    def _backquoted(self) -> None:
        end = re.compile(r"(?:[^`\\]|\\.)*", re.DOTALL).match(self.text, self.at)
        assert end
        inner = _Script(self.text[self.at : end.end()].replace("\\`", "`"), self.line)
        inner.commands()
        self.found += [(line, words, tuple(self.opened)) for line, words, _ in inner.found]
        self.line, self.at = inner.line, end.end() + 1

    def _balanced(self, opens: str, closes: str) -> None:
        self.at += len(opens)
        while self._peek() and not self.text.startswith(closes, self.at):
            char = self._next()
            if char in "$`":
                self._expansion(char)
            elif char == '"':
                self._double()
            elif char == "\\":
                self._next()
        self.at += len(closes)


def shell_texts(words: tuple[str, ...]) -> Iterator[str]:
    """Give the script that `sh -c` is told, if it stands there."""
    if words[:2] and words[0].rpartition("/")[2] in ("sh", "bash") and "-c" in words:
        after = words[words.index("-c") + 1 :]
        yield from after[:1]
