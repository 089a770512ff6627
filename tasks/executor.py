"""Names for users' files, and for `tasks.executor_class` in their configurations."""

from .cli.executor import Executor, run, server_arguments

__all__ = ["Executor", "run", "server_arguments"]
