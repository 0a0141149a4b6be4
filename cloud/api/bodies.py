"""Bodies of requests: read no further than any honest one goes, then checked against their struct."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from fastapi import Request

T = TypeVar("T")


class BadBody(ValueError):
    """The request is wrong; the text says what."""


async def read_body(request: Request, kind: type[T], most_bytes: int) -> T:
    """The JSON body as its struct. Raises BadBody."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise BadBody(f"more than {most_bytes} bytes")
    try:
        return msgspec.json.decode(bytes(body), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBody(str(error)) from None
