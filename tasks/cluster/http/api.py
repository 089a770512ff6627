"""The server's HTTP side under the names that docs/python-api.md has for scripts."""

from .client import Api, Messages
from .failure import ApiError, ApiTimeoutError
from .stream import StreamChunk

Piece = StreamChunk  # its name in version 0.1
__all__ = ["Api", "ApiError", "ApiTimeoutError", "Messages", "Piece", "StreamChunk"]
