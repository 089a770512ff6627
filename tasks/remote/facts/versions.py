"""Which versions a python would import, from the names of folders only.

Importing mlx takes a second and would touch the GPU, importlib.metadata takes several times what
Python itself does. The first on its path wins, as it does there. Only whether MLX has a backend (in
argv, if that is a question) has to be asked of MLX itself.
"""

import os
import sys


def there(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except OSError:
        return []


names = [name for folder in sys.path for name in there(folder)]


def of(name: str) -> str:
    for each in names:
        head, _, rest = each.partition("-")
        if head.lower().replace(".", "_") == name and each.endswith((".dist-info", ".egg-info")):
            return rest[:-10].partition("-")[0]
    return "checkout" if name in names or name + ".py" in names else ""


found = {"python": sys.version.split()[0]}
found |= {name: of(name.replace("-", "_")) for name in ("mlx", "mlx-lm", "vllm-mlx")}
if found["mlx"] and sys.argv[1:] > [""]:
    try:
        import mlx.core as mx

        found["backend"] = "yes" if mx.distributed.is_available(sys.argv[1]) else "no"
    except Exception:  # an MLX that can't be imported is told where a rank is started
        pass
# Not by the module json, whose import takes longer than all of this.
rows = [f'"{name}": "{version}"' for name, version in found.items()]
print("{" + ", ".join(rows) + "}")
