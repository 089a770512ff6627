"""What inv dev.* does: a file per task, loaded when it is first asked for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import loop as loop
    from . import model as model
    from . import sync as sync
    from . import tiny_model as tiny_model
    from . import verify as verify
else:
    from ...lazy import modules_of

    __getattr__ = modules_of(__name__)
