"""Shell text that refuses what Apple's command does not know: `apple.check`, for each start.

A guard runs before every `sed` of a test host, so it is dash, which starts in a millisecond. It is
made from the same rows, and a test holds the two against each other.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from .apple import Row, rows

_START = """#!/bin/dash
# Made from apple.json: it ends as Apple's {name} does at a word that one does not know.
me={name}
no() {{ printf '%s\\n' "$1" >&2; exit "${{2:-{status}}}"; }}
each() {{ :; }} # letter value
letters() {{ # letters, how many words there are, the next one
  rest=$1 used= last=
  while [ -n "$rest" ]; do
    c=${{rest%"${{rest#?}}"}} rest=${{rest#?}}
    case $c in
    {arms}
    *) no "$me: {wrong} option -- $c" ;;
    esac
  done
}}
words() {{ # all words: $left is how many of them are operands
  while [ $# -gt 0 ]; do
    case $1 in
    --) shift; break ;;
{long_arm}\
    -?*)
      letters "${{1#-}}" $# "$2"
      [ -z "$used" ] || shift
      [ -z "$last" ] || {{ shift; break; }}
      ;;
    {lone}
    *) {operand} ;;
    esac
    shift
  done
  left=$#
}}
"""

_LONG = """long() { # word, how many there are
  name=${1#--} found= many= used=
  given=${name%%=*}
  for each in @; do
    case ${each%%=*} in
    "$given") found=$each many=; break ;;
    "$given"*) many=$found found=$each ;;
    esac
  done
  [ -n "$found" ] || no "$me: unrecognized option \\`--$name'"
  [ -z "$many" ] || no "$me: option \\`--$given' is ambiguous"
  case $found,$name in
  *=\\?,* | *=,*=*) ;;
  *=,*) [ "$2" -gt 1 ] || no "$me: option \\`--$name' requires an argument"; used=1 ;;
  *,*=*) no "$me: option \\`--$given' doesn't allow an argument" ;;
  esac
}
"""

_PS = """each() {
  case $1 in o | O) ;; *) return ;; esac
  set -f
  IFS=' ,'
  for word in $2; do
    case @ in *" ${word%%=*} "*) ;; *) no "ps: ${word%%=*}: keyword not found" 1 ;; esac
  done
  unset IFS
}
old() { # ps axww
  letters() {
    rest=$1 used= last=
    while [ -n "$rest" ]; do
      c=${rest%"${rest#?}"} rest=${rest#?}
      case $c in
      ARMS
      *) no "$me: illegal option -- $c" ;;
      esac
    done
  }
  first=-$1
  shift
  words "$first" "$@"
}
pids() {
  shift $(($# - left))
  for word; do
    case $word in [0-9]*) ;; *) no "ps: illegal argument: $word" ;; esac
  done
}
case ${1-} in -* | '') words "$@" ;; *) old "$@" ;; esac
pids "$@"
"""

_OLD = """skip() { shift; words "$@"; }
w=${1-}
case $w in PREFIX[0-9]*) w=${w#?} ;; *) w=. ;; esac
STRIP
case $w in *[!0-9]*) words "$@" ;; *) skip "$@" ;; esac
"""

_FIND = """words "$@"
primaries() {
  shift $(($# - left))
  count=$#
  while [ $# -gt 0 ]; do
    case $1 in -* | ! | '(') break ;; *) shift ;; esac
  done
  [ $# -lt $count ] || no 'usage: find'
  while [ $# -gt 0 ]; do
    case $1 in
    !) ;;
    {none}) ;;
    {one}) [ $# -lt 2 ] || shift ;;
    {until}) while [ $# -gt 1 ]; do shift; case $1 in ';' | +) break ;; esac; done ;;
    *) no "find: $1: unknown primary or operator" 1 ;;
    esac
    shift
  done
}
primaries "$@"
"""


# What starts often, and what GNU's and Apple's take differently; ps is process 1's (server.py).
GUARDED = (
    "chmod", "date", "find", "grep", "head", "mktemp", "rm", "sed", "sort", "stat", "tail", "wc",
    "xargs",
)  # fmt: skip


def guard(command: str, real: str, first: Sequence[str] = (), unbuilt: str = "") -> str:
    """Give a script that runs `real` with its own words where Apple's `command` knows them all.

    `first` are words before those, `unbuilt` letters that it refuses too. Where Apple's options end
    at the first operand, so do GNU's.
    """
    row = rows()[os.path.basename(command), False]
    row = replace(row, unbuilt=row.unbuilt + unbuilt)
    ends = row.parser == "getopt" and command != "xargs"
    line = f"{'POSIXLY_CORRECT=1 ' if ends else ''}exec {shlex.join([real, *first])}"
    return f'{_functions(row)}{_main(row)}{line} "$@"\n'


def _functions(row: Row) -> str:
    # One of sort has a "=" in its name: it can not be written whole, but begun it is ambiguous.
    longs = [name.replace("=", "_") + takes for name, takes in row.long.items()]
    start = _START.format(
        name=row.command,
        status=row.status or 1,
        arms=_arms(row, row.options),
        wrong="invalid" if longs else "illegal",
        long_arm='    --*) long "$1" $#; [ -z "$used" ] || shift ;;\n' if longs else "",
        lone="-) each - '' ;;" if "-" in row.options else "",
        operand=":" if longs and not row.options.startswith("+") else "break",
    )
    return start + (_LONG.replace("@", " ".join(map(shlex.quote, longs))) if longs else "")


def _arms(row: Row, options: str) -> str:
    """The cases for the letters of getopt's string, by what they take."""
    plain: list[str] = []
    valued: list[str] = []
    maybe: list[str] = []
    for letter, colons in re.findall("([^:+])(:*)", options):
        (plain, valued, maybe)[len(colons)].append(letter)
    value = (
        '[ -n "$rest" ] || { [ "$2" -gt 1 ] || no "$me: option requires an argument -- $c";'
        ' used=1; }; each "$c" "${rest:-$3}"; rest= ;;'
    )
    built = [letter for letter in plain if letter not in row.unbuilt]
    arms = [
        f"{_any(row.unbuilt)}) no 'usage: {row.command}' ;;" if row.unbuilt else "",
        f"{_any(row.last)}) last=1; rest= ;;" if row.last else "",
        f"{_any(built)}) ;;" if built else "",
        f"{_any(valued)}) {value}" if valued else "",
        f"{_any(maybe)}) rest= ;;" if maybe else "",
    ]
    return "\n    ".join(filter(None, arms))


def _any(words: Iterable[str]) -> str:
    return " | ".join(map(shlex.quote, words))


def _main(row: Row) -> str:
    if row.parser == "find":
        primary = row.words["primary"]
        kinds = {"none": 0, "one": 1, "until": ";"}
        lists = {
            name: _any(word for word in primary if primary[word] == takes)
            for name, takes in kinds.items()
        }
        return re.sub(r"\{(none|one|until)\}", lambda found: lists[found[1]], _FIND)
    if row.parser == "ps":
        known = shlex.quote(f" {' '.join(row.words['keyword'])} ")
        return _PS.replace("@", known, 1).replace("ARMS", _arms(row, row.old))
    if row.old:
        # `head -5`, `tail +2lf`
        signs, strip = ("[-+]", "w=${w%[Ffr]} w=${w%[bcl]}") if "+]" in row.old else ("-", "")
        return _OLD.replace("PREFIX", signs).replace("STRIP\n", strip and strip + "\n")
    return 'words "$@"\n'
