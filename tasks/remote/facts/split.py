"""Will the model in a folder run on so many ranks? Asks its files, and this Python's own mlx_lm.

Arguments: the folder, "tensor" or "pipeline", and numbers of ranks: for one alone, others are
looked for where the answer is no; for several, each is told in both modes. Prints a line of JSON.
Preflight has it run by kept.py, which does so only where there is no answer yet.

The model of config.json is built as mlx_lm's load_model would, but never evaluated; its own
shard() (or pipeline()) is called with a stand-in for a group. Every whole number on a module must
be as before or exactly an N-th, every weight too; then a prompt and one more token are run on
paper: MLX infers shapes while it builds a graph, so what would die at the first prompt raises
here, and costs nothing.

It must be a process of its own: importing mlx_lm takes seconds, nearly all of it for tokenizers, so
stand-ins for these go into sys.modules.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import importlib
import importlib.util
import json
import os
import re
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

OTHERS = (1, 2, 3, 4, 5, 6, 7, 8)  # ranks that are looked for where those asked for can't be


class NoError(Exception):
    """Why the model can't be divided."""


class UnknownError(Exception):
    """Why this can't tell."""


# What the files say of themselves.


def header(path: str) -> tuple[dict[str, Any], int] | None:
    """Tensor -> what its header says, and the file's size by it; None where that can't be read.

    8 bytes for the header's length, at most 100 MB, then JSON, then the tensors
    (https://huggingface.co/docs/safetensors).
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            found: Any = json.loads(file.read(length)) if length <= 10**8 else None
        found.pop("__metadata__", None)
        end = max((each["data_offsets"][1] for each in found.values()), default=0)
        return found, 8 + length + int(end)
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return None


def index(folder: str) -> dict[str, str] | None:
    """Tensor -> file, by the index; None where there is none, empty where it can't be read."""
    try:
        with open(os.path.join(folder, "model.safetensors.index.json"), encoding="utf-8") as file:
            found = json.load(file)["weight_map"]
        return {str(name): str(each) for name, each in found.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return {}


def weights(folder: str) -> dict[str, Any]:
    """What files and index say."""
    paths = sorted(glob.glob(os.path.join(glob.escape(folder), "*.safetensors")))
    heads = {os.path.basename(path): header(path) for path in paths}
    listed = index(folder)
    lost = sorted(
        name
        for name, file in (listed or {}).items()
        if (head := heads.get(file)) and name not in head[0]
    )
    return {
        "named": None if listed is None else sorted(set(listed.values())),
        "implied": {file: head and head[1] for file, head in heads.items()},
        "lost": [[name, (listed or {})[name]] for name in lost[:1]],
        "lost_count": len(lost),
    }


# The model, as mlx_lm builds it.


class Mlx:
    """mlx and mlx_lm of this Python, without tokenizers and hub, which are not needed here."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("mlx_lm")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("No module named 'mlx_lm'")
        package = types.ModuleType("mlx_lm")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["mlx_lm"] = package
        for name in ("transformers", "huggingface_hub", "mlx_lm.tokenizer_utils"):
            stand_in: Any = types.ModuleType(name)
            stand_in.__getattr__ = lambda attribute: type(attribute, (), {})
            sys.modules[name] = stand_in
        # By name: whoever checks types here need not have mlx.
        self.lm: Any = importlib.import_module("mlx_lm.utils")
        self.mx: Any = importlib.import_module("mlx.core")
        self.nn: Any = importlib.import_module("mlx.nn")
        self.utils: Any = importlib.import_module("mlx.utils")
        self.version = str(importlib.import_module("mlx_lm._version").__version__)

    def arrays(self, model: Any) -> dict[str, Any]:
        flat = self.utils.tree_flatten(model.parameters())
        return {path: each for path, each in flat if isinstance(each, self.mx.array)}

    def nbytes(self, model: Any) -> int:
        return sum(each.nbytes for each in self.arrays(model).values())

    def published(self, folder: str) -> tuple[dict[str, Any], str]:
        """The tensors that load_model would read, on paper: of the same shapes and kinds.

        And what is in two files: which of them is read last differs from node to node.
        """
        found: dict[str, Any] = {}
        where: dict[str, str] = {}
        zeros: dict[Any, Any] = {}  # one for all: each is memory of the GPU
        twice = ""
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), "model*.safetensors"))):
            name = os.path.basename(path)
            try:
                read = self.mx.load(path)
            except Exception as error:
                if (head := header(path)) is None or head[1] != os.path.getsize(path):
                    return {}, ""  # it is cut off, which is told by what looks at sizes
                why = words(error)
                raise NoError(f"mlx can't load {name}, copy it again: {why}") from None
            if again := sorted(where.keys() & read.keys()):
                files = f"in {where[again[0]]} and in {name}"
                twice = twice or f"{listed(again)} is {files}, and either may be taken"
            where |= dict.fromkeys(read, name)
            # A file stays open as long as something of it is there.
            for key, each in read.items():
                zero = zeros.setdefault(each.dtype, self.mx.zeros((), each.dtype))
                found[key] = self.mx.broadcast_to(zero, each.shape)
        return found, twice


class Group:
    """A stand-in for mx.distributed.Group."""

    def __init__(self, size: int, rank: int) -> None:
        self._size, self._rank = size, rank

    def size(self) -> int:
        return self._size

    def rank(self) -> int:
        return self._rank


@contextlib.contextmanager
def on_paper(mlx: Mlx, size: int) -> Iterator[None]:
    """Collectives only give the right shapes, and nothing is evaluated."""

    def nothing(*_: Any, **__: Any) -> None: ...

    new = {
        (mlx.mx, "eval"): nothing,
        (mlx.mx, "async_eval"): nothing,
        (mlx.mx.distributed, "all_sum"): lambda x, **_: x,
        (mlx.mx.distributed, "all_gather"): lambda x, **_: mlx.mx.concatenate([x] * size),
    }
    old = {key: getattr(*key) for key in new}
    try:
        for key, value in new.items():
            setattr(*key, value)
        yield
    finally:
        for key, value in old.items():
            setattr(*key, value)


def config_of(mlx: Mlx, folder: str) -> dict[str, Any]:
    """config.json as load_model reads it."""
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else words(error)
        raise NoError(f"config.json can't be read, copy it again: {why}") from None
    if not isinstance(found, dict):
        raise NoError("config.json is no JSON object, copy it again")
    found = getattr(mlx.lm, "_decode_tagged_floats", lambda each: each)(found)
    beside = os.path.join(folder, "hf_quant_config.json")
    if "quantization_config" not in found and os.path.exists(beside):
        with open(beside, encoding="utf-8") as file:
            found["quantization_config"] = json.load(file)
    return dict(found)


def check_tokenizer(folder: str) -> None:
    """Raise NoError for a tokenizer.json that is cut off: it is read last of all."""
    try:
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
            json.load(file)
    except FileNotFoundError:
        pass  # there are tokenizers of other files
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else words(error)
        raise NoError(f"tokenizer.json can't be read, copy it again: {why}") from None


def text_of(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part of a configuration that has several."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def settled(given: Any, name: str) -> dict[str, Any]:
    """A quantization that says what load_model asks of it."""
    for key in ("group_size", "bits"):
        if not isinstance(given, dict) or type(given.get(key)) is not int:
            raise NoError(f"config.json's {name} has no {key} that is a number")
    return dict(given)


SIZES = {"mxfp4": 32, "mxfp8": 32, "modelopt": 16, "awq": 128, "gptq": 128}
MODES = {"mxfp4": "mxfp4", "mxfp8": "mxfp8", "modelopt": "nvfp4"}


def quantization(
    mlx: Mlx, config: dict[str, Any]
) -> tuple[dict[str, Any] | None, list[str] | None]:
    """What load_model hands to nn.quantize, and the names that a foreign checkpoint leaves out."""
    if config.get("quantization") is not None:
        return settled(config["quantization"], "quantization"), None
    given = config.get("quantization_config") or text_of(config).get("quantization_config") or {}
    if given and not (isinstance(given, dict) and given.get("quant_method")):
        raise NoError("config.json's quantization_config has no quant_method")
    settings = given.get("quantization", given)
    out = [
        *(settings.get("modules_to_not_convert") or settings.get("ignore") or ()),
        *(settings.get("exclude_modules") or ()),
    ]
    method = given.get("quant_method")
    if method == "bitnet":
        raise UnknownError("bitnet quantization is not followed here")
    if method == "compressed-tensors":
        # Older versions have no such function, and take every format for this one.
        read = getattr(mlx.lm, "_compressed_tensors_quantization", None)
        try:
            return (read(given) if read else {"group_size": 32, "bits": 4}), out
        except ValueError as error:
            raise NoError(f"mlx-lm {mlx.version} can't load it: {error}") from None
    if given.get("scale_fmt") == "ue8m0" and given.get("weight_block_size") == [32, 32]:
        method = "mxfp8"
    if method not in SIZES:  # fp8 in blocks of 128 and the like: sanitize() makes it bfloat16
        return None, None
    mode = MODES.get(method, "affine")
    bits = 8 if mode == "mxfp8" else 4
    group = settings.get("group_size", SIZES[method])
    return {"group_size": group, "bits": bits, "mode": mode}, out


def made(mlx: Mlx, config: dict[str, Any]) -> Any:
    """The bare model of the config."""
    if config.get("model_file"):
        raise UnknownError(
            f"it brings its own code ({config['model_file']}), which is not run here"
        )
    try:
        model, arguments = mlx.lm._get_classes(config)
    except (TypeError, ValueError) as error:
        raise NoError(f"mlx-lm {mlx.version}: {str(error).rstrip('.')}") from None
    except KeyError as error:
        raise NoError(f"config.json has no {error}") from None
    try:
        given = arguments.from_dict(config)
    except Exception as error:  # of the config's own numbers; load_model does just this
        said = words(error).replace(f"{arguments.__name__}.__init__() ", "")
        raise NoError(f"config.json is none that mlx-lm {mlx.version} takes: {said}") from None
    try:
        with on_paper(mlx, 1):
            return model(given)
    except Exception as error:
        raise UnknownError(f"mlx-lm {mlx.version} can't build it: {words(error)}") from None


def build(mlx: Mlx, config: dict[str, Any], files: dict[str, Any]) -> tuple[Any, Fitted]:
    """The model as load_model leaves it, with nothing evaluated, and how `files` go into it."""
    model = made(mlx, config)
    given = [
        part.get(key) for part in (config, text_of(config)) for key in ("torch_dtype", "dtype")
    ]
    known = ("bfloat16", "float16", "float32")
    dtype = getattr(mlx.mx, next((each for each in given if each in known), "bfloat16"))
    cast = getattr(model, "cast_predicate", lambda _: True)

    def as_published(path: str, value: Any) -> Any:
        is_cast = mlx.mx.issubdtype(value.dtype, mlx.mx.floating) and cast(path)
        return value.astype(dtype) if is_cast else value

    model.update(mlx.utils.tree_map_with_path(as_published, model.parameters()))
    packed, out = quantization(mlx, config)
    with on_paper(mlx, 1):
        told, strange = sanitized(model, files)
        if packed:
            quantize(mlx, model, packed, out, told)
        else:
            refuse_packed(model, set(told))
        fitted = Fitted("", strange, "")
        if files and not strange and out is None:
            fitted = fit(mlx, model, told)
    return model.eval(), fitted


class Fitted:
    """What is wrong (`lost`), not known (`strange`), or `refused` by one rank alone, in words."""

    def __init__(self, lost: str, strange: str, refused: str) -> None:
        self.lost, self.strange, self.refused = lost, strange, refused


def sanitized(model: Any, files: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The tensors as the model's class makes them its own, and why that can't be told."""
    try:
        return (model.sanitize(dict(files)) if files and hasattr(model, "sanitize") else files), ""
    except Exception as error:
        return files, f"whether the files are its own can't be told: sanitize() says {words(error)}"


def fit(mlx: Mlx, model: Any, told: dict[str, Any]) -> Fitted:
    """Put the files' tensors in, as load_weights does, and tell what one rank would refuse.

    Ranks that divide a model load with strict=False: they go on with random numbers, leave out what
    they have no place for, take what has another shape, and say nothing.
    """
    mine = mlx.arrays(model)
    if lost := sorted(set(mine) - set(told)):
        return Fitted(f"the files have no {listed(lost)}, copy or download the model again", "", "")
    extra = sorted(set(told) - set(mine))
    other = [name for name in mine if told[name].shape != mine[name].shape]
    model.load_weights(list(told.items()), strict=False)
    if extra:
        what = f"the files have {listed(extra)}"
        return Fitted("", "", f"{what}, for which the model of config.json has no place")
    if other:
        here, there = list(told[other[0]].shape), list(mine[other[0]].shape)
        return Fitted("", "", f"{listed(other)} is {here} in the files, by config.json {there}")
    return Fitted("", "", "")


def listed(names: list[str]) -> str:
    return f"{names[0]} (and {len(names) - 1} more)" if names[1:] else names[0]


def refuse_packed(model: Any, names: set[str]) -> None:
    """Raise NoError for packed files of a model that is built plain.

    To be divided it is loaded with strict=False: nobody else would say so.
    """
    for path, module in model.named_modules():
        if "scales" not in module and f"{path}.scales" in names:
            raise NoError(f"the files have {path}.scales, and config.json no quantization for it")


def quantize(
    mlx: Mlx, model: Any, packed: dict[str, Any], out: list[str] | None, given: dict[str, Any]
) -> None:
    """Pack the layers that the files have packed, or, without files, that mlx_lm.convert would."""
    default = {"group_size": packed["group_size"], "bits": packed["bits"]}
    own = getattr(model, "quant_predicate", None)
    # In a checkpoint of MLX's own, names are paths of modules, and load_model goes by them.
    told = {path for path, _ in model.named_modules() if f"{path}.scales" in given}

    def left_out(path: str, module: Any) -> bool:
        name = path.replace(".switch_mlp.", ".experts.0.")
        name = name[15:] if name.startswith("language_model.") else name
        return isinstance(module, mlx.nn.Embedding) or any(
            re.match(each[3:], n)
            if each[:3] == "re:"
            else fnmatch.fnmatch(n, each.rstrip("*") + "*")
            for each in out or ()
            for n in (name, f"language_model.{name}")
        )

    def predicate(path: str, module: Any) -> Any:
        if path in packed:
            return packed[path]
        if not hasattr(module, "to_quantized"):
            return False
        if told and out is None:
            return path in told and as_packed(mlx, path, module, given)
        if module.weight.shape[-1] % packed["group_size"]:
            return False
        asked = own(path, module) if own else True
        # A class that says more than yes of a layer knows better than a foreign list.
        return asked if out is None else asked is True and not left_out(path, module)

    mlx.nn.quantize(model, **default, mode=packed.get("mode", "affine"), class_predicate=predicate)


def as_packed(mlx: Mlx, path: str, module: Any, given: dict[str, Any]) -> Any:
    """How a layer of which config.json says nothing is packed: since 0.32 its files tell."""
    infer = getattr(mlx.lm, "infer_quant_config", None)
    if infer is None:
        return True
    found = infer(path, module, given)
    takes = getattr(mlx.lm, "_takes_global_scale", lambda _: False)
    if f"{path}.global_scale" in given and takes(module):
        found["global_scale"] = True
    return found


# What becomes of it on N ranks.


def save(model: Any) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
    return [(module, dict(module), dict(vars(module))) for module in model.modules()]


def restore(saved: list[tuple[Any, dict[str, Any], dict[str, Any]]]) -> None:
    """Put the model back as it was, so that it need not be built again."""
    for module, items, attributes in saved:
        dict.clear(module)
        dict.update(module, items)
        vars(module).clear()
        vars(module).update(attributes)


def shard(mlx: Mlx, model: Any, size: int) -> None:
    """Call the model's own shard() as the last rank, and hold all that it divided to be exact.

    A slice that runs over the end shows at the last rank.
    """
    sizes = {path: each.size for path, each in mlx.arrays(model).items()}
    counts = [
        (module, f"{path}.{name}".lstrip("."), name, value)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if type(value) is int
    ]
    failed = None
    try:
        with on_paper(mlx, size):
            model.shard(Group(size, size - 1))
    except Exception as error:
        failed = NoError(f"shard() says {words(error)}")
    for module, path, name, old in counts:  # 8 // 3 is 2 without a word
        new = vars(module).get(name)
        is_repeated = old and new == 1 and size % old == 0  # KV heads, one for several ranks
        if new not in (old, old / size) and not is_repeated:
            raise NoError(f"{things(old, name, path)} can't be divided by {size} ranks")
    if failed:
        raise failed
    left = {path: each.size for path, each in mlx.arrays(model).items()}
    for path, old in sizes.items():
        part, rest = divmod(old, left.get(path, 0) or 1)
        is_shared = size % part == 0 and re.search(r"\b[kv]_proj\.", path)
        if rest or not (part in (1, size) or is_shared):
            raise NoError(f"{path} has {old} numbers, a rank would keep {left.get(path, 0)}")


def things(count: int, name: str, path: str) -> str:
    """A number of a module in words: 4 KV heads, 20 heads."""
    s = "s" * (count != 1)
    if re.search(r"kv_?heads|key_?value_?heads", name):
        return f"{count} KV head{s}"
    if re.search(r"heads?$", name):
        return f"{count} head{s}"
    return f"{path} = {count}"


def trace(mlx: Mlx, model: Any, size: int) -> tuple[Any, list[Any]]:
    """The logits' shape after a prompt and one more token, on paper, and each layer's cache."""
    with on_paper(mlx, size):
        cache = importlib.import_module("mlx_lm.models.cache").make_prompt_cache(model)
        for tokens in ([[1, 2, 3, 4]], [[5]]):
            logits = model(mlx.mx.array(tokens), cache=cache)
    return logits.shape, cache


def held(mlx: Mlx, cache: list[Any]) -> dict[str, Any]:
    """What caches hold: KV heads, bytes per token by window (None: of all tokens), other bytes."""
    heads, state = set(), 0
    windows: dict[Any, int] = {}
    for each in (part for layer in cache for part in getattr(layer, "caches", [layer])):
        keys = getattr(each, "keys", None)
        if isinstance(keys, mlx.mx.array):
            heads.add(keys.shape[1])
            most = getattr(each, "max_size", None)
            token = (keys.nbytes + each.values.nbytes) // keys.shape[2]
            windows[most] = windows.get(most, 0) + token
        else:
            flat = mlx.utils.tree_flatten(each.state or [])
            state += sum(value.nbytes for _, value in flat if isinstance(value, mlx.mx.array))
    cached = [[most, token] for most, token in windows.items()]
    return {"kv_heads": sorted(heads), "cache": cached, "state": state}


class Trial:
    """A model, and what it does whole, against which each number of ranks is held."""

    def __init__(self, mlx: Mlx, folder: str, config: dict[str, Any]) -> None:
        self.mlx = mlx
        self.folder, self.kind = folder, str(config.get("model_type"))
        self.files, self.twice = mlx.published(folder)
        self.model, self.fitted = build(mlx, config, self.files)
        self.saved = save(self.model)
        self.shape: Any = None
        self.untried = ""
        try:
            self.shape, self.cache = trace(self.mlx, self.model, 1)
        except Exception as error:
            self.untried = f"a first prompt can't be tried on paper: {words(error)}"
        restore(self.saved)

    def row(self, mode: str, size: int) -> dict[str, Any]:
        """The answer for so many ranks: yes, no or unknown, why, each rank's bytes and cache."""
        said: dict[str, Any] = {"n": size, "mode": mode, "answer": "yes", "why": ""}
        try:
            said.update(
                self.pipeline(size) if mode == "pipeline" and size > 1 else self.tensor(size)
            )
            if self.untried:
                said.update(answer="unknown", why=self.untried)
        except NoError as error:
            said.update(answer="no", why=str(error))
        finally:
            restore(self.saved)
        return said

    def tensor(self, size: int) -> dict[str, Any]:
        # One rank needs no shard(): the server does not call it then.
        if size > 1 and not hasattr(self.model, "shard"):
            raise NoError(
                f"mlx-lm {self.mlx.version} can't divide {self.kind} (no shard in its model file)"
            )
        if size > 1:
            shard(self.mlx, self.model, size)
        if not self.shape:
            return {"bytes": [self.mlx.nbytes(self.model)] * size}
        try:
            shape, cache = trace(self.mlx, self.model, size)
        except Exception as error:
            raise NoError(f"the first prompt would end in {words(error)}") from None
        if shape != self.shape:
            raise NoError(f"logits would have the shape {shape}, not {self.shape}")
        return {"bytes": [self.mlx.nbytes(self.model)] * size, **held(self.mlx, cache)}

    def pipeline(self, size: int) -> dict[str, Any]:
        """Layers over ranks, by the test and the call of mlx_lm's sharded_load."""
        inner: Any = getattr(self.model, "model", None)
        if not hasattr(inner, "pipeline"):
            raise NoError(f"mlx-lm {self.mlx.version} has no --pipeline for {self.kind}")
        count, sizes, parts = len(inner.layers), [], []
        self.by_index(count)
        for rank in range(size):
            try:
                inner.pipeline(Group(size, rank))
            except Exception as error:
                raise NoError(f"pipeline() says {words(error)}") from None
            sizes.append(self.mlx.nbytes(self.model))
            parts.append([i for i, layer in enumerate(inner.layers) if layer is not None])
            restore(self.saved)
        # 0.30.7 and 0.31.3 leave some out where the ranks do not divide them, without a word.
        if sorted(i for part in parts for i in part) != list(range(count)) or not all(parts):
            raise NoError(
                f"--pipeline of mlx-lm {self.mlx.version} would leave out some of {count} layers"
            )
        rank = max(range(size), key=lambda each: sizes[each])
        cache = self.cache if self.shape else []
        of_rank = [cache[i] for i in parts[rank]] if len(cache) == count else cache
        return {"bytes": sizes, **held(self.mlx, of_rank)}

    def by_index(self, count: int) -> None:
        """Raise NoError where the index, by which each rank finds its files, lacks a layer."""
        named = index(self.folder)
        if named is None:
            raise NoError(
                f"--pipeline of mlx-lm {self.mlx.version} wants a model.safetensors.index.json"
            )
        found = (re.search(r"(?:^|\.)layers\.(\d+)\.", name) for name in named)
        if lost := sorted({*range(count)} - {int(each[1]) for each in found if each}):
            more = f" (and {len(lost) - 1} more)" if lost[1:] else ""
            raise NoError(f"model.safetensors.index.json names nothing of layer {lost[0]}{more}")

    def layers(self, names: set[str]) -> tuple[int, list[int]]:
        """How many layers it has, and which of them have weights in it and none in the files."""
        found = re.compile(r"(?:^|.*?\.)(\w+)\.(\d+)\.")
        own = [each for each in map(found.match, self.mlx.arrays(self.model)) if each]
        count = len(getattr(self.model, "layers", ()) or ())
        # A vision tower has numbered layers too.
        for list_name in dict.fromkeys(each[1] for each in own):
            wanted = {int(each[2]) for each in own if each[1] == list_name}
            if wanted and max(wanted) == count - 1:
                there = re.compile(rf"(?:^|\.){list_name}\.(\d+)\.")
                has = {int(each[1]) for each in map(there.search, names) if each}
                return count, sorted(wanted - has) if has else []
        return count, []

    def told(self, row: dict[str, Any]) -> None:
        """Change a row's answer by how the files go into the model."""
        fitted = self.fitted
        sure = fitted.lost or (fitted.refused if row["n"] == 1 or self.untried else "")
        if row["answer"] != "no" and sure:
            row |= {"answer": "no", "why": sure}
        elif row["answer"] == "yes" and (why := fitted.strange or fitted.refused or self.twice):
            row |= {"answer": "unknown", "why": why}


def words(error: Exception) -> str:
    text = " ".join(str(error).split())[:300].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def answer(folder: str, mode: str, counts: list[int]) -> dict[str, Any]:
    """All that there is to say of the model."""
    said = weights(folder)
    said |= {"mlx_lm": "", "layers": 0, "bare": [], "context": None, "kind": "", "rows": []}
    try:
        mlx = Mlx()
        config = config_of(mlx, folder)
        context = text_of(config).get("max_position_embeddings")
        said |= {"mlx_lm": mlx.version, "kind": str(config.get("model_type"))}
        said["context"] = context if type(context) is int and context > 0 else None
        check_tokenizer(folder)
        trial = Trial(mlx, folder, config)
        said["layers"], said["bare"] = trial.layers(set(trial.files))
        said["rows"] = rows(trial, mode, counts)
        for row in [] if said["bare"] else said["rows"]:
            trial.told(row)
        said["peak"] = mlx.mx.get_peak_memory()
    except Exception as error:
        is_no, is_ours = isinstance(error, NoError), isinstance(error, (NoError, UnknownError))
        why = str(error) if is_ours else f"mlx-lm can't be asked: {words(error)}"
        row = {"mode": mode, "answer": "no" if is_no else "unknown", "why": why}
        said["rows"] = [{"n": count, **row} for count in counts]
    return said


def rows(trial: Trial, mode: str, counts: list[int]) -> list[dict[str, Any]]:
    if len(counts) > 1:
        return [trial.row(each, n) for each in ("tensor", "pipeline") for n in counts]
    found = [trial.row(mode, counts[0])]
    if found[0]["answer"] == "no":
        other = "tensor" if mode == "pipeline" else "pipeline"
        found += [trial.row(mode, n) for n in OTHERS if n != counts[0]]
        found += [trial.row(other, counts[0])]
    return found


def lines(folder: str, mode: str, *counts: str) -> tuple[str, str]:
    """The answer as a line of JSON, and the one to keep for the next time, if any."""
    begun = time.monotonic()
    said = answer(folder, mode, [int(each) for each in counts])
    said["seconds"] = round(time.monotonic() - begun, 2)
    return json.dumps(said), json.dumps({**said, "kept": True}) if said["mlx_lm"] else ""


if __name__ == "__main__":
    print(lines(*sys.argv[1:])[0])
