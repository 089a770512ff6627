"""What `inv maintain.big` does on a node; the answer is a line of JSON, with `seconds`.

    PYTHON node.py about                 what this machine is, by the ranks' python
    PYTHON node.py make PLAN.json        a model: right shapes, random weights, an index
    PYTHON node.py read FOLDER BYTES     read that much of its weights, as one reader
    PYTHON node.py cold FOLDER BYTES     the same with nothing of it in the page cache (Linux)

The standard library alone. Values are cut out of a pool of random ones at random places, so that
the disk (or the memory) sets the pace; a file is written by a thread of its own. What was made by
the same plan is left as it is.
"""

from __future__ import annotations

import array
import importlib.metadata
import json
import os
import platform
import random
import struct
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

FILE = 5_000_000_000  # bytes of weights in a file, at most
POOL = 1 << 18  # values
TURNS = 16  # times that they are there, each time from another place on
PIECE = 1 << 24  # bytes
READ = 1 << 24
SHARP = 4.0  # standard deviation of the logits: the likeliest token gets some 10 to 60 %
LETTERS = "aehilmnorstu"
SIZES = {"bfloat16": ("BF16", 2), "float32": ("F32", 4)}

Matrix = tuple[str, list[int], float]  # name, shape, standard deviation (0: a vector of ones)


def main() -> None:
    begun = time.monotonic()
    what, *words = sys.argv[1:]
    if what == "about":
        found = about()
    elif what == "make":
        with open(words[0], encoding="utf-8") as file:
            found = make(json.load(file))
    else:
        if what == "cold":
            forget(words[0])
            begun = time.monotonic()
        found = read(words[0], int(words[1]))
    seconds = time.monotonic() - begun
    if what == "cold":
        forget(words[0])
    print(json.dumps({"folder": os.getcwd(), **found, "seconds": seconds}))


def about() -> dict[str, Any]:
    import mlx.core as mx

    cuda = getattr(mx, "cuda", None)
    kind = "cuda" if cuda and cuda.is_available() else "cpu"
    return {
        "kind": "metal" if mx.metal.is_available() else kind,
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "mlx": mx.__version__,
        "mlx_lm": version("mlx-lm"),
    }


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def matrices(config: dict[str, Any]) -> Iterator[Matrix]:
    """A Llama's: what a layer adds is small against what it is added to, as in trained models."""
    hidden, middle = config["hidden_size"], config["intermediate_size"]
    size, words = config["head_dim"], config["vocab_size"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    adds = (2 * config["num_hidden_layers"]) ** -0.5
    yield "model.embed_tokens", [words, hidden], 1.0
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield f"{layer}.self_attn.{name}", [rows, hidden], hidden**-0.5
        yield f"{layer}.self_attn.o_proj", [hidden, queries], adds * queries**-0.5
        yield f"{layer}.mlp.gate_proj", [middle, hidden], hidden**-0.5
        yield f"{layer}.mlp.up_proj", [middle, hidden], hidden**-0.5
        yield f"{layer}.mlp.down_proj", [hidden, middle], adds * 1.7 * middle**-0.5
        yield f"{layer}.input_layernorm", [hidden], 0.0
        yield f"{layer}.post_attention_layernorm", [hidden], 0.0
    yield "model.norm", [hidden], 0.0
    yield "lm_head", [words, hidden], SHARP * hidden**-0.5


def make(plan: dict[str, Any]) -> dict[str, Any]:
    """Write what is not there yet; config.json comes last and says that all is whole."""
    folder, config = plan["folder"], plan["config"]
    os.makedirs(folder, exist_ok=True)
    files = divided(config)
    names = [f"model-{n:05d}-of-{len(files):05d}.safetensors" for n in range(1, len(files) + 1)]
    total = sum(size_of(config, shape) for each in files for _, shape, _ in each)
    found = {"bytes": total, "files": len(files)}
    text = json.dumps(config, indent=2, sort_keys=True)
    done = os.path.join(folder, "config.json")
    if is_text(done, text):
        return {**found, "was_there": True}
    for name in os.listdir(folder):
        if name == "config.json" or name.endswith(".safetensors"):
            os.remove(os.path.join(folder, name))
    kind = SIZES[config["torch_dtype"]][0]
    pool = array.array("f", map(random.Random(1).gauss, [0.0] * POOL, [1.0] * POOL))
    scaled = {each: values(pool, each, kind) for each in {m[2] for f in files for m in f}}
    with ThreadPoolExecutor(plan["writers"]) as threads:
        jobs = [
            threads.submit(write, os.path.join(folder, name), config, each, scaled)
            for name, each in zip(names, files)
        ]
        for job in jobs:
            job.result()
    weights = {f"{m[0]}.weight": name for name, each in zip(names, files) for m in each}
    index = {"metadata": {"total_size": total}, "weight_map": weights}
    put(os.path.join(folder, "model.safetensors.index.json"), json.dumps(index))
    put(os.path.join(folder, "tokenizer.json"), json.dumps(tokenizer(plan)))
    put(os.path.join(folder, "tokenizer_config.json"), json.dumps(plan["settings"]))
    put(done, text)
    return found


def divided(config: dict[str, Any]) -> list[list[Matrix]]:
    """The matrices of each file."""
    files: list[list[Matrix]] = [[]]
    held = 0
    for each in matrices(config):
        size = size_of(config, each[1])
        if held and held + size > FILE:
            files.append([])
            held = 0
        files[-1].append(each)
        held += size
    return files


def size_of(config: dict[str, Any], shape: list[int]) -> int:
    size = SIZES[config["torch_dtype"]][1]
    for each in shape:
        size *= each
    return size


def is_text(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read() == text
    except OSError:
        return False


def put(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def write(
    path: str, config: dict[str, Any], wanted: list[Matrix], scaled: dict[float, memoryview]
) -> None:
    """One file: its header, then each tensor in pieces."""
    kind = SIZES[config["torch_dtype"]][0]
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    at = 0
    for name, shape, _ in wanted:
        size = size_of(config, shape)
        header[f"{name}.weight"] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    places = random.Random(path)
    with open(path, "wb", buffering=0) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape, deviation in wanted:
            for piece in pieces(scaled[deviation], size_of(config, shape), places):
                file.write(piece)


def values(pool: array.array[float], deviation: float, kind: str) -> memoryview:
    """The pool with that standard deviation, as bytes; ones for 0."""
    scaled = array.array("f", (each * deviation for each in pool) if deviation else [1.0] * POOL)
    if sys.byteorder == "big":
        scaled.byteswap()
    data = scaled.tobytes()
    if kind == "BF16":  # the upper half of a float32
        half = bytearray(len(data) // 2)
        half[0::2], half[1::2] = data[2::4], data[3::4]
        data = bytes(half)
    turns = [random.Random(turn).randrange(POOL) * len(data) // POOL & ~7 for turn in range(TURNS)]
    return memoryview(b"".join(data[turn:] + data[:turn] for turn in turns))


def pieces(data: memoryview, left: int, places: random.Random) -> Iterator[memoryview]:
    """So many bytes out of `data`, each piece from another place."""
    while left:
        start = places.randrange(len(data) // 2) & ~7
        size = min(left, PIECE, len(data) - start)
        yield data[start : start + size]
        left -= size


def tokenizer(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan's, with a word for every further id.

    mlx-lm's detokenizer dies of an id without a text, and the server with it.
    """
    found: dict[str, Any] = plan["tokenizer"]
    vocabulary = found["model"]["vocab"]
    vocabulary.update({each["content"]: each["id"] for each in found["added_tokens"]})
    for number in range(len(vocabulary), plan["config"]["vocab_size"]):
        word, rest = "", number
        while rest:
            rest, letter = divmod(rest, len(LETTERS))
            word += LETTERS[letter]
        vocabulary[f"\u0120{word}."] = number
    return found


def forget(folder: str) -> None:
    """Let the page cache forget the weights (posix_fadvise(2)); macOS has no way without sudo."""
    if not hasattr(os, "posix_fadvise"):
        raise SystemExit("this system can't be told to forget a file's pages")
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):
            file = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def read(folder: str, most: int) -> dict[str, Any]:
    """Read the weights from the first file on, as long as there are fewer bytes than `most`."""
    done, piece = 0, bytearray(READ)
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                while done < most:
                    count = file.readinto(piece)
                    if not count:
                        break
                    done += count
    return {"bytes": done}


if __name__ == "__main__":
    main()
