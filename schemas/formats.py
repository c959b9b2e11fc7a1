"""Which formats of our own values are read: those up to the newest that this version knows.

A newer one is refused, and never read as if it were known: what this version has no field for would
be gone with the next write (docs/decisions/0016, 0048).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct

# What a reader raises about bytes that any client may have written: no JSON or of another form, no
# UTF-8 (a ValueError, and not msgspec's own), or nested too deep.
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


class NewerFormat(Exception):
    """A value was written by a newer version of sendtrace.

    Of an input it goes to quarantine, whole. Of state or totals it stops the process (exit code 5).
    """


class Versioned(Protocol):
    """Any value of ours that is stored."""

    @property
    def v(self) -> int: ...


V = TypeVar("V", bound=Versioned)


class _Version(Struct):
    v: int = 1


_decode_version = msgspec.json.Decoder(_Version).decode


def reader(of: type[V], newest: int, name: str | None = None) -> Callable[[bytes], V]:
    """A decoder of this kind. It raises NewerFormat, also where a newer value has another form;
    else one of UNREADABLE."""
    decode = msgspec.json.Decoder(of).decode
    called = name or of.__name__

    def read(raw: bytes) -> V:
        try:
            found = decode(raw)
        except msgspec.ValidationError:
            _refuse_newer(_decode_version(raw).v, newest, called)
            raise
        if found.v > newest:
            _refuse_newer(found.v, newest, called)
        return found

    return read


def _refuse_newer(v: int, newest: int, called: str) -> None:
    if v > newest:
        raise NewerFormat(
            f"{called} of format {v} was found, and this version reads formats up to {newest}: "
            "run the version that wrote it, or a newer one"
        )
