"""A number's country is what the phonenumbers package says (docs/rules.md 6)."""

from __future__ import annotations

import random

import phonenumbers
import pytest
from phonenumbers.data import _COUNTRY_CODE_TO_REGION_CODE as REGIONS_OF

from schemas.phones import PHONE_CHANNELS, country_of

SHARED = [str(code) for code, regions in REGIONS_OF.items() if len(regions) > 1]
CODES = [str(code) for code in REGIONS_OF]


def by_package(digits: str) -> str | None:
    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(f"+{digits}"))
    except phonenumbers.NumberParseException:
        return None
    return None if region == "001" else region


def examples() -> list[str]:
    """A valid number of each region and type, so that what is rare is there at all."""
    found = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in phonenumbers.PhoneNumberType.values():
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                found.append(phonenumbers.format_number(number, 0).removeprefix("+"))
    return found


def random_number(chance: random.Random, valid: list[str]) -> str:
    """Any digits; those of a calling code, mostly a shared one; or a valid number with changes."""
    kind = chance.randrange(4)
    if kind == 0:
        number = list(chance.choice(valid))
        for _ in range(chance.randrange(4)):
            number[chance.randrange(1, len(number))] = chance.choice("0123456789")
        return "".join(number)
    start = ("", chance.choice(CODES), chance.choice(SHARED))[kind - 1]
    return start + "".join(chance.choices("0123456789", k=chance.randint(7, 15)))


def test_a_hundred_thousand_random_numbers_have_the_package_s_country() -> None:
    chance, valid = random.Random(20_251_122), examples()
    numbers = [*valid, *(random_number(chance, valid) for _ in range(100_000))]
    tried = [number for number in numbers if 7 <= len(number) <= 15]
    wrong = [n for n in tried if country_of(n, "sms") != by_package(n)]
    assert wrong == []
    assert len(tried) > 80_000
    # Of the countries few are left out: the comparison was not of nothing with nothing.
    assert len({country_of(number, "sms") for number in tried}) > 240


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("447400123456", "GB"),
        ("+447400123456", "GB"),
        ("4407400123456", "GB"),  # with the national prefix that does not belong there
        ("447781123456", "GG"),
        ("447700900000", None),  # kept free for films and documentation: no country has it
        ("12025550123", "US"),
        ("16045550123", "CA"),
        ("18765550123", "JM"),
        ("77011234567", "KZ"),
        ("79161234567", "RU"),
        ("66837000111", "TH"),
        ("12345", None),
        ("AcmeInc", None),
        ("4477009000001234567", None),
        ("00447400123456", None),
        ("\u0664\u0664\u0667\u0667\u0660\u0660\u0669\u0660\u0660", None),
        ("", None),
        (None, None),
    ],
)
def test_examples(address: str | None, country: str | None) -> None:
    assert country_of(address, "sms") == country


def test_only_channels_with_numbers() -> None:
    for channel in PHONE_CHANNELS:
        assert country_of("447400123456", channel) == "GB"
    for channel in ("messenger", "email", "", None):
        assert country_of("447400123456", channel) is None
