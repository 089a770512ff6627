"""The cabling drawn: what is in the picture, that nothing overlaps, and that nothing breaks it."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tasks.drawing import STATES, DrawnPort, Line, Picture, Style
from tasks.drawing.svg import svg
from tasks.drawing.terminal import terminal

SVG = "{http://www.w3.org/2000/svg}"
WORDS = list(STATES)


def cable(number: int, one: str, two: str, state: str = "good") -> Line:
    """Cable `number` with interfaces and a subnet of its own."""
    base = f"10.254.{number // 64}.{{}}/30"
    a = DrawnPort(one, f"en{number}", base.format(number % 64 * 4 + 1))
    b = DrawnPort(two, f"en{number}", base.format(number % 64 * 4 + 2))
    return Line(a, b, None if state == "missing" else 80.0, state)


def wired(pairs: list[tuple[int, int]], states: list[str], name: str = "mac{}") -> Picture:
    ends = [(name.format(a), name.format(b)) for a, b in pairs]
    hosts = tuple(dict.fromkeys(name.format(n) for n in range(1 + max(map(max, pairs)))))
    return Picture(
        hosts, tuple(cable(i, *two, states[i % len(states)]) for i, two in enumerate(ends))
    )


def mesh(size: int, cables: int = 1, name: str = "mac{}") -> Picture:
    return wired([*combinations(range(size), 2)] * cables, WORDS, name)


RING = wired([(0, 1), (1, 2), (2, 3), (3, 0)], ["good", "good", "missing", "good"])
PICTURES = {
    **{f"mesh of {size}": mesh(size) for size in (2, 3, 4, 6, 8)},
    **{f"mesh of {size}, two cables": mesh(size, 2) for size in (2, 3, 4)},
    "two hosts, eight cables": mesh(2, 8),
    "ring of four, one missing": RING,
    "ring of sixteen": wired([(n, (n + 1) % 16) for n in range(16)], WORDS),
    "long names": mesh(4, 2, "a-studio-with-a-long-name-{}.office.example.com"),
    "names as long as they fit": mesh(4, 1, "a-studio-of-ours-0-{}"),
    "wide letters": mesh(3, 2, "机器{}号"),
    "one host": Picture(("mac1",), ()),
    "no cable": Picture(("mac1", "mac2", "mac3"), ()),
}
USUAL = [mesh(2), mesh(3), mesh(4, 2), mesh(8), RING]

every_picture = pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES.keys())


drawn = cache(svg)


def texts(document: str) -> list[str]:
    """What can be read without hovering."""
    return [element.text or "" for element in ET.fromstring(document).iter(f"{SVG}text")]


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


Corners = list[tuple[float, float]]


def boxes(document: str) -> list[tuple[str, Corners]]:
    """Every box of a label or host: its text, and its corners as the document places them."""
    found = []
    for group in ET.fromstring(document).iter(f"{SVG}g"):
        x, y, turn = numbers(group.attrib["transform"])
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None
        assert text is not None
        left, top, width, height = (float(rect.attrib[n]) for n in ("x", "y", "width", "height"))
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        corners = [
            (x + cos * u - sin * v, y + sin * u + cos * v)
            for u in (left, left + width)
            for v in (top, top + height)
        ]
        found.append((text.text or "", corners))
    return found


def overlap(one: Corners, two: Corners) -> bool:
    """By the separating axis theorem: some side's direction divides boxes that are apart."""
    for corners in (one, two):
        for x, y in (subtract(corners[1], corners[0]), subtract(corners[2], corners[0])):
            first, second = ([u * x + v * y for u, v in box] for box in (one, two))
            if max(first) <= min(second) or max(second) <= min(first):
                return False
    return True


def subtract(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] - b[0], a[1] - b[1]


def test_overlap_is_seen() -> None:
    square: Corners = [(0, 0), (0, 2), (2, 0), (2, 2)]
    diamond: Corners = [(1, -3), (-1, -1), (3, -1), (1, 1)]
    far: Corners = [(x + 2.1, y) for x, y in diamond]
    assert overlap(square, diamond)
    assert not overlap(square, far)


@every_picture
def test_no_boxes_overlap(picture: Picture) -> None:
    found = boxes(drawn(picture))
    assert len(found) == len(picture.hosts) + 3 * len(picture.lines)
    for (one, a), (two, b) in combinations(found, 2):
        assert not overlap(a, b), f"{one} and {two}"


@every_picture
def test_text_fits_its_box_and_everything_the_view(picture: Picture) -> None:
    document = drawn(picture)
    left, top, width, height = numbers(ET.fromstring(document).attrib["viewBox"])
    for text, corners in boxes(document):
        assert math.dist(corners[0], corners[2]) > cell_len(text) * 7.2  # of 12 units' monospace
        assert all(left < x < left + width and top < y < top + height for x, y in corners)
    paper = ET.fromstring(document)[1]
    assert [float(paper.attrib[n]) for n in ("x", "y", "width", "height")] == [
        left, top, width, height,
    ]  # fmt: skip


@pytest.mark.parametrize("picture", USUAL)
def test_everything_is_in_the_drawn(picture: Picture) -> None:
    found = texts(drawn(picture))
    assert set(picture.hosts) <= set(found)
    for line in picture.lines:
        for port in (line.a, line.b):
            assert f"{port.interface} {port.address}" in found
    middles = {line.state: line.speed for line in picture.lines}
    for state, speed in middles.items():
        words = [f"{speed:.0f} Gb/s"] if speed else []
        assert ", ".join(words + ([state] if state != "good" else [])) in found


def test_labels_are_near_their_own_hosts() -> None:
    picture = mesh(8)
    found = dict(boxes(drawn(picture)))
    middle = {text: (sum(x for x, _ in box) / 4, sum(y for _, y in box) / 4)
              for text, box in found.items()}  # fmt: skip
    for line in picture.lines:
        for port, other in ((line.a, line.b), (line.b, line.a)):
            label = middle[f"{port.interface} {port.address}"]
            assert math.dist(label, middle[port.host]) < math.dist(label, middle[other.host])


@pytest.mark.parametrize("states", [["good"], ["missing", "good"], WORDS[::-1]])
def test_the_legend_has_the_states_that_occur(states: list[str]) -> None:
    pairs = [*combinations(range(5), 2)]
    root = ET.fromstring(drawn(wired(pairs, states)))
    legend = [element.text for element in root.findall(f"{SVG}text")]
    assert legend == [state for state in WORDS if state in states]
    samples = [path.attrib["stroke-dasharray"] for path in root.findall(f"{SVG}path")[len(pairs) :]]
    assert samples == [STATES[state or ""].dash for state in legend]


def test_states_differ_in_colour_and_in_pattern() -> None:
    for name in Style._fields:
        assert len({getattr(style, name) for style in STATES.values()}) == len(STATES)


def paths(picture: Picture) -> list[dict[str, str]]:
    found = [element.attrib for element in ET.fromstring(drawn(picture)).iter(f"{SVG}path")]
    return found[: len(picture.lines)]


def test_cables_have_the_look_of_their_state() -> None:
    picture = mesh(4)
    for line, look in zip(picture.lines, paths(picture), strict=True):
        style = STATES[line.state]
        assert (look["stroke"], look["stroke-dasharray"]) == (style.colour, style.dash)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("cables", [2, 3])
def test_parallel_cables_are_apart(cables: int, turned: bool) -> None:
    """Also where one is given from the other end."""
    picture = mesh(2, cables)
    first, *rest = picture.lines
    lines = (replace(first, a=first.b, b=first.a) if turned else first, *rest)
    middles = []
    for path in paths(replace(picture, lines=lines)):
        _, y1, _, y2, _, y3, _, y4 = numbers(path["d"])
        middles.append((y1 + 3 * y2 + 3 * y3 + y4) / 8)
    assert len(middles) == cables
    for one, two in combinations(middles, 2):
        assert abs(one - two) > 40


def test_a_port_without_an_address() -> None:
    line = Line(
        DrawnPort("mac1", "en5", None), DrawnPort("mac2", "en4", "10.254.0.6/30"), 80, "no address"
    )
    picture = Picture(("mac1", "mac2"), (line,))
    assert "en5" in texts(drawn(picture))
    assert terminal(picture)[0][-1].startswith("mac1 en5 - ")


def test_a_missing_cable_whose_interfaces_are_not_known() -> None:
    line = Line(DrawnPort("mac1", "", None), DrawnPort("mac2", "", None), None, "missing")
    picture = Picture(("mac1", "mac2"), (line,))
    assert texts(drawn(picture)) == ["-", "-", "missing", "mac1", "mac2", "missing"]
    assert terminal(picture)[0][-1] == "mac1  - ┈┈┈┈  - mac2  missing"


@pytest.mark.parametrize(
    ("speed", "state", "words"),
    [(80, "good", "80 Gb/s"), (None, "good", "good"), (39.5, "good", "39.5 Gb/s"),
     (None, "unknown", "unknown"), (80.0, "port down", "80 Gb/s, port down")],
)  # fmt: skip
def test_middle_labels(speed: float | None, state: str, words: str) -> None:
    line = replace(cable(5, "a", "b"), speed=speed, state=state)
    assert boxes(drawn(Picture(("a", "b"), (line,))))[2][0] == words


HOSTILE = {
    "markup": "<script>alert(1)</script>",
    "end tags": "</text></svg>",
    "quotes": "\"'&amp;&#10;",
    "CDATA": "]]><![CDATA[",
    "lines": "two\nlines\r\tx",
    "controls": "\x1b[31mred\x00\x07",
    "no characters": "\ud800\ufffe\uffff",
    "right to left": "\u202egnp.exe",
    "unicode": "münchen-机器-🖥",
    "nothing": "",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_names_are_text(name: str) -> None:
    port = DrawnPort(name, name, name)
    picture = Picture((name, "mac2"), (Line(port, DrawnPort("mac2", name, name), 80, "good"),))
    document = drawn(picture)
    root = ET.fromstring(document.encode())
    ours = {SVG + tag for tag in ("svg", "title", "rect", "path", "g", "text")}
    assert {element.tag for element in root.iter()} == ours
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    titles = [element.text for element in root.iter(f"{SVG}title")]
    assert titles[0] == f"Cabling of {shown}, mac2"
    assert len(boxes(document)) == 5
    lines, _ = terminal(picture)
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)


def test_what_is_cut_is_whole_on_hover() -> None:
    picture = mesh(2, 1, "a-studio-with-a-long-name-{}.office.example.com")
    root = ET.fromstring(drawn(picture))
    titles = " ".join(element.text or "" for element in root.iter(f"{SVG}title"))
    for line in picture.lines:
        for port in (line.a, line.b):
            assert f"{port.host} {port.interface} {port.address}" in titles


@every_picture
@pytest.mark.parametrize("width", [40, 72, 80, 132])
def test_terminal_fits(picture: Picture, width: int) -> None:
    lines, segments = terminal(picture, width)
    assert max(map(cell_len, lines)) <= width if lines else not picture.lines
    assert lines == [line.rstrip() for line in lines]
    ends = {0: 0}
    for segment in segments:
        end = segment.column + len(segment.text)
        assert lines[segment.row][segment.column : end] == segment.text
        assert segment.column >= ends.get(segment.row, 0)
        ends[segment.row] = end
    assert [segment.row for segment in segments] == sorted(segment.row for segment in segments)


ANY = st.text(max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    hosts=st.lists(ANY, min_size=2, max_size=5, unique=True),
    interface=ANY,
    address=st.none() | ANY,
    speed=st.none() | st.floats(0, 400),
    width=st.integers(40, 200),
)
@example(hosts=["", "0", "1", "00"], interface="0", address=None, speed=100.5, width=40)
def test_no_text_breaks_the_layout(
    hosts: list[str], interface: str, address: str | None, speed: float | None, width: int
) -> None:
    lines = tuple(
        Line(DrawnPort(a, interface, address), DrawnPort(b, interface, address), speed, state)
        for (a, b), state in zip(combinations(hosts, 2), WORDS, strict=False)
    )
    picture = Picture(tuple(hosts), lines)
    written, _ = terminal(picture, width)
    assert max(map(cell_len, written)) <= width
    assert all(line.isprintable() for line in written)
    found = [box for _, box in boxes(svg(picture))]
    assert not any(overlap(a, b) for a, b in combinations(found, 2))


@pytest.mark.parametrize("picture", [*USUAL[:2], *USUAL[3:], mesh(2, 1, "hwstudio{}")])
def test_everything_is_in_the_rows(picture: Picture) -> None:
    rows = terminal(picture)[0][-len(picture.lines) :]
    for line, row in zip(picture.lines, rows, strict=True):
        speed = f"{line.speed:.0f} Gb/s" if line.speed else STATES[line.state].stroke * 5
        words = [line.a.host, line.a.interface, line.a.address, speed,
                 line.b.interface, line.b.address, line.b.host, line.state]  # fmt: skip
        places = [row.find(word or "") for word in words]
        assert -1 not in places, row
        assert row.index(line.a.host) < row.index(speed) < row.rindex(line.b.host)
        assert row.endswith(f"  {line.state}")


def test_rows_are_aligned() -> None:
    picture = mesh(8)
    states = [s for s in terminal(picture)[1] if s.text in STATES]
    assert len(states) == len(picture.lines)
    assert len({segment.column for segment in states}) == 1


def test_sketch() -> None:
    picture = Picture(
        ("mac1", "mac2", "mac3"),
        (
            cable(5, "mac1", "mac2"),
            cable(3, "mac3", "mac1"),
            replace(cable(4, "mac2", "mac3"), state="port down"),
        ),
    )
    assert terminal(picture, 60)[0][:6] == [
        "┌──────┐                  ┌──────┐                  ┌──────┐",
        "│ mac1 │                  │ mac2 │                  │ mac3 │",
        "└───┬──┘                  └───┬──┘                  └───┬──┘",
        "    ├en5───── 80 Gb/s ─────en5┤                         │",
        "    ├en3────── 80 Gb/s ───────┼──────────────────────en3┤",
        "    │                         ├en4╌╌╌╌ port down ╌╌╌╌en4┤",
    ]


def test_the_whole_of_two_hosts() -> None:
    line = Line(
        DrawnPort("mac1", "en5", "10.254.0.5/30"),
        DrawnPort("mac2", "en5", "10.254.0.6/30"),
        80.0,
        "good",
    )
    lines, segments = terminal(Picture(("mac1", "mac2"), (line,)))
    assert lines[3:] == [
        "    ├en5─────────── 80 Gb/s ───────────en5┤",
        "",
        "mac1 en5 10.254.0.5/30 ── 80 Gb/s ── en5 10.254.0.6/30 mac2  good",
    ]
    assert [(s.row, s.text, s.state) for s in segments] == [
        (3, "en5─────────── 80 Gb/s ───────────en5", "good"),
        (5, "── 80 Gb/s ──", "good"),
        (5, "good", "good"),
    ]


@pytest.mark.parametrize(("size", "width"), [(5, 80), (8, 200), (4, 60)])
def test_more_than_fits_is_not_drawn(size: int, width: int) -> None:
    picture = mesh(size)
    assert len(terminal(picture, width)[0]) == len(picture.lines)


@pytest.mark.parametrize(
    ("name", "on_a_box", "in_a_row"),
    [
        ("a-studio-of-the-office-{}", "a-studio-o…-office-{}", "a-st…e-{}"),
        ("our-studio-{}.the-office.example", "{} our-stud…e.example", "{} ou…ple"),
    ],
)
def test_cut_names_stay_apart(name: str, on_a_box: str, in_a_row: str) -> None:
    """By their ends if these differ, else by number."""
    picture = mesh(3, 1, name)
    assert [text for text, _ in boxes(drawn(picture))[-3:]] == [
        on_a_box.format(n) for n in range(3)
    ]
    rows = terminal(picture, 78)[0][-3:]
    for row, (one, two) in zip(rows, combinations(range(3), 2), strict=True):
        assert row.startswith(in_a_row.format(one) + " en")
        assert re.search(rf"/30 +{in_a_row.format(two)}  ", row)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"state": "great"}, "'great' is no state"), ({"b": DrawnPort("a", "en6", None)}, "are on a")],
)
def test_wrong_lines(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(cable(5, "a", "b"), **change)
