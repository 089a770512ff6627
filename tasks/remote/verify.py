"""Hash a model's files, and hold them against what their source says they are.

argv: the folder and the state directory. Each two seconds a line of JSON, {"done": BYTES, "of":
BYTES, "file": NAME}; the last one is {"files": {NAME: {...}}}, of each file

    size, sha256
    cut      true where a safetensors file is not as long as its own header says
    source   who says what it must be, "" where nobody does; then
    right    whether it is that
    changed  true where it had another hash the last time, with the same size and time

Who says it: Hugging Face's cache, in which a file is a link to one whose name is its hash (sha256;
of small ones git's); what `hf download --local-dir` has noted; a SHA256SUMS in the folder, which
dev.sync carries along as any file. Hashes are kept as they are found, so that one who was
interrupted goes on there; those of a whole run are what the next one compares with.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

AT_ONCE = 4  # files: a hash is the work of one core, a disk has more to give
BLOCK = 1 << 22
SUMS = "SHA256SUMS"
EVERY = 2.0  # seconds between two lines


class Work:
    def __init__(self, folder: str, state: str) -> None:
        self.folder = folder
        key = hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:16]
        self.path = os.path.join(state, "verified", f"{key}.json")
        self.names = sorted(files(folder))
        self.sizes = {name: os.path.getsize(self.at(name)) for name in self.names}
        self.read = dict.fromkeys(self.names, 0)
        self.kept = self.load()

    def at(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def load(self) -> dict[str, Any]:
        """What is kept; of a run that was whole its hashes are those of the last time."""
        try:
            with open(self.path, encoding="utf-8") as file:
                kept = json.load(file)
            if kept["whole"]:
                return {"whole": False, "before": kept["files"], "files": {}}
            return {"whole": False, "before": {**kept["before"]}, "files": {**kept["files"]}}
        except (OSError, ValueError, TypeError, KeyError):
            return {"whole": False, "before": {}, "files": {}}

    def save(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        with open(f"{self.path}.{os.getpid()}", "w", encoding="utf-8") as file:
            json.dump(self.kept, file)
        os.replace(file.name, self.path)

    def run(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            left = {pool.submit(self.hash, name): name for name in self.names}
            while left:
                ended, _ = wait(left, EVERY, "FIRST_COMPLETED")
                for each in ended:
                    self.note(left.pop(each), each)
                self.tell(next(iter(left.values()), ""))
        self.kept["whole"] = True
        self.save()

    def note(self, name: str, ended: Future[dict[str, str]]) -> None:
        self.kept["files"][name] = [identity(self.at(name)), ended.result()]
        self.save()

    def tell(self, name: str) -> None:
        now = time.monotonic()
        if now - getattr(self, "told", 0) >= EVERY:
            self.told = now
            say({"done": sum(self.read.values()), "of": sum(self.sizes.values()), "file": name})

    def hash(self, name: str) -> dict[str, str]:
        """Both hashes of a file, as they are kept or as they are found."""
        known = self.kept["files"].get(name)
        if known and known[0] == identity(self.at(name)):
            self.read[name] = self.sizes[name]
            return dict(known[1])
        sha, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % self.sizes[name])
        small = self.sizes[name] < 1 << 26  # what git's hash is for
        with open(self.at(name), "rb") as file:
            while block := file.read(BLOCK):
                sha.update(block)
                if small:
                    git.update(block)
                self.read[name] += len(block)
        return {"sha256": sha.hexdigest(), "git": git.hexdigest() if small else ""}

    def found(self) -> dict[str, Any]:
        sums = listed(self.at(SUMS))
        return {name: self.row(name, sums) for name in self.names}

    def row(self, name: str, sums: dict[str, str]) -> dict[str, Any]:
        known, hashes = self.kept["files"][name]
        before = self.kept["before"].get(name)
        changed = bool(before) and before[0] == known and before[1] != hashes
        source, wanted = self.wanted(name, sums)
        row = {"size": self.sizes[name], "sha256": hashes["sha256"], "source": source}
        row |= {"changed": changed, "cut": self.is_cut(name)}
        return {**row, "right": wanted in hashes.values()} if source else row

    def wanted(self, name: str, sums: dict[str, str]) -> tuple[str, str]:
        """Who says what a file must be, and what: its hash, sha256 or git's."""
        path = self.at(name)
        blob = os.path.basename(os.readlink(path)) if os.path.islink(path) else ""
        if is_hash(blob):
            return "Hugging Face's cache", blob
        note = os.path.join(self.folder, ".cache/huggingface/download", f"{name}.metadata")
        etag = [*lines(note), "", ""][1].strip()
        if is_hash(etag):
            return "hf download", etag
        return (SUMS, sums[name]) if name in sums else ("", "")

    def is_cut(self, name: str) -> bool:
        """Whether a safetensors file is not as long as its own header says (its README)."""
        if not name.endswith(".safetensors"):
            return False
        try:
            with open(self.at(name), "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, 1 << 28)))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
            return 8 + length + max(ends, default=0) != self.sizes[name]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return True


def files(folder: str) -> Iterator[str]:
    """Names of all files, seen from the folder; hidden ones are the downloader's notes."""
    for at, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in names:
            path = os.path.join(at, name)
            if not name.startswith(".") and name != SUMS and os.path.isfile(path):
                yield os.path.relpath(path, folder)


def identity(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ino]


def is_hash(word: str) -> bool:
    return len(word) in (40, 64) and not word.strip("0123456789abcdef")


def lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 22).splitlines()
    except OSError:
        return []


def listed(path: str) -> dict[str, str]:
    """Name -> hash of a file as sha256sum writes it: "HASH  NAME" or "HASH *NAME"."""
    rows = [line.partition(" ") for line in lines(path)]
    return {os.path.normpath(name[1:]): sha for sha, _, name in rows if is_hash(sha)}


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main(folder: str, state: str) -> None:
    work = Work(folder, state)
    work.run()
    say({"files": work.found()})


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[1]}: {error.strerror}")
