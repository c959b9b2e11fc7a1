"""The forms in which a number may stand in the tables."""

import pytest

from sendtrace.forget import forms_of


@pytest.mark.parametrize(
    ("given", "forms"),
    [
        ("447700900000", ["+447700900000", "447700900000"]),
        ("+44 7700 900-000", ["+44 7700 900-000", "+447700900000", "447700900000"]),
        (" (447700) 900000 ", ["(447700) 900000", "+447700900000", "447700900000"]),
        ("some.user", ["some.user"]),
        ("12", ["12"]),
    ],
)
def test_forms_of_a_number(given: str, forms: list[str]) -> None:
    assert forms_of(given) == forms
