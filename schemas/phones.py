"""The country of a phone number, from its digits alone (docs/rules.md 6).

Only for channels whose addresses are numbers: Messenger ids are digits too. A short code, a name
and a number that no country has are of none; nor are ships', satellites' and free international
numbers. Read the way the `phonenumbers` package would, which a test compares with it.
"""

from __future__ import annotations

from schemas.phone_prefixes import STATES

# viber_service is v1's name of viber; a receipt's channel is always sms.
PHONE_CHANNELS = frozenset({"sms", "mms", "rcs", "whatsapp", "viber", "viber_service"})
_SHORTEST, _LONGEST = 7, 15
_WIDTH = 10
_DIGIT_0 = ord("0")


def _tables() -> tuple[list[int], list[str | None], list[str | None]]:
    """Ten entries per state: 0 and more is where the next state's begin, below is a country."""
    countries: list[str | None] = [None]
    numbers: dict[str, int] = {"-": -1}
    follow: list[int] = []
    ends: list[str | None] = []
    for line in STATES.split("\n")[:-1]:
        end, *cells = line.split(" ")
        ends.append(None if end == "-" else end)
        for cell in cells:
            if cell.isdigit():
                follow.append(int(cell) * _WIDTH)
                continue
            if cell not in numbers:
                countries.append(cell)
                numbers[cell] = -len(countries)
            follow.append(numbers[cell])
    return follow, ends, countries


_FOLLOW, _ENDS, _COUNTRIES = _tables()
_FIRST = len(_FOLLOW) - _WIDTH


def country_of(address: str | None, channel: str | None) -> str | None:
    """ISO 3166 code of the country, or None: ``("447400123456", "sms")`` is of GB.

    The examples of Vonage's documents, 447700900000 and the like, are kept free by their country
    and so have none.
    """
    if address is None or channel not in PHONE_CHANNELS:
        return None
    digits = address.removeprefix("+")
    if not (_SHORTEST <= len(digits) <= _LONGEST and digits.isascii() and digits.isdigit()):
        return None
    state = _FIRST
    for digit in digits.encode():
        state = _FOLLOW[state + digit - _DIGIT_0]
        if state < 0:
            return _COUNTRIES[-state - 1]
    return _ENDS[state // _WIDTH]
