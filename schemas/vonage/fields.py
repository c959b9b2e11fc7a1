"""Values as Vonage writes them: one reader per kind of value, shared by all parsers.

``"null"``, the empty string and an absent key are alike (docs/vonage.md 1). Numbers come as strings
or as numbers. A value of another type is unknown, never an error: the rest of the webhook counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from schemas.events import CLIENT_REF_LENGTH, ID_TEXT_LENGTH, TEXT_LENGTH, WORD_LENGTH
from schemas.numbers import money, time_us
from schemas.vonage.reasons import NotUnderstoodError, Reason

T = TypeVar("T")

# Ids are 16 to 36 characters; a key of state must have a bound.
ID_LENGTH = 256
# More digits than any code or count has; str() and int() of thousands of digits raise.
_DIGITS = 18
_LARGEST = 10**_DIGITS
# Parts and segments are few. It also keeps them inside an integer column.
_LARGEST_COUNT = 99_999
# Nothing longer is a time or a price. It also bounds what the caches hold.
_NUMERIC_LENGTH = 40
# Most bytes of JSON that one character takes: \u0001.
_ESCAPED = 6
_SHORT_ESCAPES = '"\\\b\t\n\f\r'

# Provider times outside 2000 to 2100 are mistakes, and would spoil every latency.
_FIRST_US = 946_684_800_000_000
_LAST_US = 4_102_444_800_000_000

_NOTHING: dict[str, Any] = {}
# v0.1's name of a channel that v1 calls otherwise.
_CHANNELS = {"viber_service_msg": "viber_service"}

# Vonage's clock ticks in whole seconds and prices are few: most values were read a moment ago.
_cached_time_us = lru_cache(maxsize=4096)(time_us)
_cached_money = lru_cache(maxsize=1024)(money)


def text(value: object, length: int = TEXT_LENGTH) -> str | None:
    """A string cut to ``length`` bytes of its JSON, or None. NUL is dropped: PostgreSQL has no
    text with it."""
    if type(value) is str:
        if "\0" in value:
            value = value.replace("\0", "")
        if len(value) * _ESCAPED > length:
            value = _cut(value[:length], length)
        return value if value and value != "null" else None
    if type(value) is int and -_LARGEST < value < _LARGEST:
        return str(value)
    return None


@lru_cache(maxsize=1024)
def _cut(value: str, length: int) -> str:
    """Cached: the texts of errors are few. What comes in is at most ``length`` characters."""
    # Of printable ASCII only quotes and backslashes take more than a byte.
    escapes = value.count('"') + value.count("\\")
    if len(value) + escapes <= length and value.isascii() and value.isprintable():
        return value
    size = 0
    for index, character in enumerate(value):
        size += _json_bytes(character)
        if size > length:
            return value[:index]
    return value


def _json_bytes(character: str) -> int:
    if character in _SHORT_ESCAPES:
        return 2
    return _ESCAPED if character < " " else len(character.encode("utf-8", "replace"))


def word(value: object) -> str | None:
    """A word of some vocabulary, as it was written."""
    return text(value, WORD_LENGTH)


def channel(value: object) -> str | None:
    """A channel of the Messages API by v1's name."""
    given = text(value, WORD_LENGTH)
    return None if given is None else _CHANNELS.get(given, given)


def ident(value: object) -> str | None:
    """An id that is no message id: of a workflow, an error, an account."""
    return text(value, ID_TEXT_LENGTH)


def reference(value: object) -> str | None:
    """A client reference as given: people's own text (docs/rules.md 6)."""
    if type(value) is str:
        cut = value.replace("\0", "")[:CLIENT_REF_LENGTH]
        return cut if cut and cut != "null" else None
    return text(value)


def address(value: object) -> str | None:
    """A number or a sender's name. One was captured with a raw TAB before it (docs/vonage.md 3)."""
    given = text(value, ID_TEXT_LENGTH)
    return given.strip() or None if given is not None else None


def whole(value: object) -> int | None:
    """A number of digits: ``2`` or ``"2"``. Nothing below zero is one."""
    digits = text(value)
    if digits is None or len(digits) > _DIGITS or not (digits.isascii() and digits.isdigit()):
        return None
    return int(digits)


def count(value: object) -> int | None:
    """How many parts, segments or items."""
    number = whole(value)
    return number if number is not None and number <= _LARGEST_COUNT else None


def code(value: object) -> str:
    """An error code as text; absent, null, empty and 0 are one code: none (docs/rules.md 1)."""
    given = word(value)
    if given is None:
        return ""
    given = given.strip()
    return given.lstrip("0") if given.isascii() and given.isdigit() else given


def provider_time(value: object) -> tuple[int, int] | tuple[None, None]:
    """Microseconds since 1970 and the clock's step, or two None."""
    if type(value) is not str or len(value) > _NUMERIC_LENGTH:
        return None, None
    read = _cached_time_us(value)
    if read is None or not _FIRST_US <= read[0] < _LAST_US:
        return None, None
    return read


def message_timestamp(value: object) -> tuple[int | None, int | None, bool]:
    """The SMS API's time, its step, and whether it had to be mended: Vonage's own Alerts example
    has backslashes in it (docs/vonage.md 2)."""
    is_mended = type(value) is str and "\\" in value
    at_us, step_us = provider_time(value.replace("\\", "") if type(value) is str else value)
    return at_us, step_us, is_mended


def price(value: object) -> int | None:
    """Money in 1e-8 units. Strings as a rule; old fixtures have numbers."""
    if type(value) is str:
        return _cached_money(value) if len(value) <= _NUMERIC_LENGTH else None
    if type(value) is int and not -_LARGEST < value < _LARGEST:
        return None
    return money(value)


def mapping(value: object) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if type(value) is dict else _NOTHING


def hostname(value: object) -> str | None:
    """Of a callback URL; the rest of it may hold secrets."""
    if type(value) is not str:
        return None
    try:
        return word(urlsplit(value.strip()).hostname)
    except ValueError:
        return None


def message_id(value: object) -> str:
    """The id, which is a record's key and a state's key. Raises NotUnderstoodError without one."""
    if type(value) is int:
        value = text(value)
    if value is None or value in ("", "null"):
        raise NotUnderstoodError(Reason.NO_MESSAGE_ID)
    # U+FFFD stands for bytes that were no text: two such ids must not become one.
    if type(value) is not str or len(value) > ID_LENGTH or "\0" in value or "\ufffd" in value:
        raise NotUnderstoodError(Reason.BAD_MESSAGE_ID)
    return value


def known_id(value: object) -> str | None:
    """The id in an answer, or None: an empty one occurs, with and without an error."""
    try:
        return message_id(value)
    except NotUnderstoodError:
        return None


def from_json(decode: Callable[[bytes], T], body: bytes) -> T:
    """Decode JSON; where a strict parser refuses, once more with what Vonage is known to send.

    A captured webhook has a raw TAB inside a string (docs/vonage.md 3). Raises NotUnderstoodError.
    """
    try:
        return decode(body)
    except msgspec.ValidationError:
        raise NotUnderstoodError(_invalid(body)) from None
    except (msgspec.DecodeError, RecursionError, ValueError):
        return _from_odd_json(decode, body)


def _from_odd_json(decode: Callable[[bytes], T], body: bytes) -> T:
    if not body.strip():
        raise NotUnderstoodError(Reason.EMPTY)
    try:
        parsed: Any = json.loads(body.decode("utf-8-sig"), strict=False)
        # Through bytes once more, so that lone surrogates cannot come in this way.
        return decode(msgspec.json.encode(parsed))
    except msgspec.ValidationError:
        raise NotUnderstoodError(_invalid(body)) from None
    except (msgspec.MsgspecError, RecursionError, OverflowError, ValueError):
        # From None: the cause would carry the bytes.
        raise NotUnderstoodError(Reason.NOT_JSON) from None


def _invalid(body: bytes) -> Reason:
    """Our structs let any value in, so that valid JSON fails for one of two reasons."""
    is_object = body.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return Reason.NUMBER_RANGE if is_object else Reason.NOT_AN_OBJECT
