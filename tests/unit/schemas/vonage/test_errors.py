"""The catalogue is whole: each code of Vonage's references, and those of docs/vonage.md 5."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vonage.errors import (
    CATALOGUE,
    Actor,
    Category,
    Error,
    Family,
    Lasting,
    lookup,
    problem,
)


def listed(words: str) -> list[str]:
    return words.split()


# Seed 000 and 001: the tables of the Messages API, v1 and v0.1.
MESSAGES_V1 = listed("""
    1000 1010 1020 1021 1022 1030 1040 1050 1060 1070 1080 1090 1100 1120 1130 1140 1150 1160 1170
    1180 1190 1200 1210 1220 1230 1240 1241 1250 1251 1260 1270 1280 1282 1290 1300 1310 1320 1330
    1331 1340 1350 1360 1370 1380 1381 1382 1400 1410 1420 1430 1440 1450 1451 1460 1461 1470 1471
    1472 1473 1474 1480 1481 1482 1483 1484
""")
MESSAGES_V01 = listed("""
    1000 1010 1020 1021 1022 1030 1040 1050 1060 1070 1080 1090 1100 1120 1130 1140 1150 1160 1170
    1180 1190 1200 1210 1220 1230 1240 1241 1250 1260 1270 1280 1290 1300 1310 1320 1330 1331 1340
    1350 1360 1370 1380 1381 1382
""")
# Seed 002: x-errors of the SMS API, and its success. Seed 003: codes of a receipt.
SENDS = listed("0 1 2 3 4 5 6 7 8 9 10 11 12 14 15 17 22 23 29 32 33")
RECEIPTS = listed("0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 99")
# docs/vonage.md 5: what only SDKs, guides and single clients know.
MORE_SENDS = listed("13 16 18 19 20 101")
MORE_RECEIPTS = listed("16 50 51 52 53 54 95")

RECEIPT_TO_MESSAGES = {
    "1": "1330", "2": "1180", "3": "1190", "5": "1200", "6": "1210", "7": "1220", "8": "1230",
    "9": "1240", "10": "1040", "11": "1250", "12": "1260", "13": "1270", "14": "1280", "15": "1290",
    "50": "1480", "51": "1481", "52": "1482", "53": "1483", "54": "1484",
}  # fmt: skip
SEND_TO_MESSAGES = {
    "1": "1000", "2": "1010", "3": "1020", "5": "1030", "6": "1040", "7": "1050", "8": "1060",
    "9": "1070", "11": "1080", "12": "1090", "13": "1100", "15": "1120", "16": "1130", "17": "1282",
    "19": "1140", "20": "1150", "29": "1160",
}  # fmt: skip
REFERENCES: list[tuple[Family, str, str]] = [
    *(("dlr", code, same) for code, same in RECEIPT_TO_MESSAGES.items()),
    *(("sms_send", code, same) for code, same in SEND_TO_MESSAGES.items()),
]
URL = "https://developer.vonage.com/api-errors/messages"


def codes(family: Family) -> list[str]:
    return [row.code for row in CATALOGUE if row.family == family]


def test_each_family_has_exactly_the_codes_that_sources_name() -> None:
    assert set(codes("sms_send")) == {*SENDS, *MORE_SENDS}
    assert set(codes("dlr")) == {*RECEIPTS, *MORE_RECEIPTS}
    assert set(codes("messages")) == {*MESSAGES_V1, *MESSAGES_V01}
    named = {code for code in codes("problem") if "#" not in code}
    assert named == {"400", "401", "402", "404", "422", "429", "500"}


def test_no_code_is_there_twice() -> None:
    counted = Counter((row.family, row.code, row.version) for row in CATALOGUE)
    assert [key for key, count in counted.items() if count > 1] == []
    # A code has versions, or it has none: no row hides another.
    versions = {(row.family, row.code) for row in CATALOGUE if row.version is not None}
    assert versions == {("messages", "1360")}
    assert not any((row.family, row.code) in versions for row in CATALOGUE if row.version is None)


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: f"{row.family}-{row.code}")
def test_each_row_is_found_and_well_formed(row: Error) -> None:
    assert lookup(row.family, row.code, row.version or "v1") is row
    assert row.known
    assert row.category in get_args(Category)
    assert row.lasting in get_args(Lasting)
    assert row.actor in get_args(Actor)
    assert row.code == row.code.strip() != ""
    assert row.name == row.name.strip() != ""
    assert row.text.endswith(".")
    assert row.text[0].isupper()
    assert len(row.text) <= 100
    assert (row.category == "none") is (row.lasting == "none") is (row.code == "0")
    if row.category == "none":
        assert row.actor == "nobody"


def test_every_category_lasting_and_actor_is_used() -> None:
    assert {row.category for row in CATALOGUE} == set(get_args(Category))
    assert {row.lasting for row in CATALOGUE} == set(get_args(Lasting))
    assert {row.actor for row in CATALOGUE} == set(get_args(Actor))
    assert {row.family for row in CATALOGUE} == set(get_args(Family))


@pytest.mark.parametrize(("family", "code", "messages"), REFERENCES)
def test_references_go_both_ways_and_agree(family: Family, code: str, messages: str) -> None:
    here, there = lookup(family, code), lookup("messages", messages)
    assert here.same_as == (("messages", messages),)
    assert (family, code) in there.same_as
    # The same thing is not a carrier's matter in one API and ours in the other.
    assert (here.category, here.lasting, here.actor) == (
        there.category,
        there.lasting,
        there.actor,
    )


def test_there_are_no_other_references() -> None:
    forward = {
        (row.family, row.code, same)
        for row in CATALOGUE
        if row.family != "messages"
        for _, same in row.same_as
    }
    assert forward == set(REFERENCES)
    backward = {
        (family, code, row.code)
        for row in CATALOGUE
        if row.family == "messages"
        for family, code in row.same_as
    }
    assert backward == set(REFERENCES)


def test_1360_says_different_things_by_version() -> None:
    old, new = lookup("messages", "1360", "v0.1"), lookup("messages", "1360", "v1")
    assert lookup("messages", "1360") is new
    assert (old.version, new.version) == ("v0.1", "v1")
    assert "charged" in old.text
    assert "charged" not in new.text
    assert old.category == new.category == "no_confirmation"
    assert lookup("messages", "1180", "v0.1") is lookup("messages", "1180", "v1")


def test_rows_that_people_act_on() -> None:
    # docs/rules.md 7: STOP and dead numbers; section 3: throttling is temporary, signing is ours.
    for family, code in (("dlr", "9"), ("messages", "1240"), ("messages", "1050"),
                         ("dlr", "3"), ("messages", "1190"), ("sms_send", "33")):  # fmt: skip
        row = lookup(family, code)  # type: ignore[arg-type]
        assert (row.category, row.lasting) == ("number", "permanent")
    for row in (lookup("sms_send", "1"), lookup("messages", "1000"), problem(429)):
        assert (row.category, row.lasting) == ("throttle", "temporary")
    for code in ("14", "32"):
        assert (lookup("sms_send", code).category, lookup("sms_send", code).actor) == (
            "caller",
            "sender",
        )


@given(st.sampled_from(get_args(Family)), st.text(min_size=1), st.sampled_from(["v0.1", "v1"]))
def test_an_unknown_code_is_data(family: Family, code: str, version: str) -> None:
    found = lookup(family, code, version)  # type: ignore[arg-type]
    if not found.known:
        assert (found.name, found.category, found.lasting) == ("unknown code", "unknown", "unclear")
        assert code.endswith(found.code)
        assert found not in CATALOGUE


@pytest.mark.parametrize("code", listed("21 24 25 26 27 28 30 31 34 -1 00 http-"))
def test_statuses_that_no_source_names_are_unknown(code: str) -> None:
    assert not lookup("sms_send", code).known


def test_a_code_belongs_to_its_family() -> None:
    assert lookup("dlr", "7").name != lookup("sms_send", "7").name
    assert not lookup("dlr", "1180").known
    assert not lookup("messages", "7").known
    assert not lookup("messages", "422").known


@pytest.mark.parametrize("family", get_args(Family))
def test_no_code_is_no_error(family: Family) -> None:
    found = lookup(family, "")
    assert (found.known, found.category, found.name) == (True, "none", "no error")


def test_a_send_without_a_readable_answer() -> None:
    # schemas/vonage/sms.py writes the HTTP status so.
    assert lookup("sms_send", "http-429") is problem(429)
    assert lookup("sms_send", "http-418").known is False
    assert lookup("dlr", "http-429").known is False


def test_problems_by_status_and_fragment() -> None:
    assert (
        problem(401, "https://developer.nexmo.com/api-errors/#unathorized").name == "unauthorised"
    )
    assert problem(402, "https://developer.nexmo.com/api-errors/#low-balance").name == "low balance"
    assert problem(422, f"{URL}#1150").name == "invalid parameters"
    assert lookup("messages", "1150").name == "invalid message class"
    assert problem(422, "#1060").category == "caller"
    assert lookup("messages", "1060").category == "account"


@pytest.mark.parametrize(
    "problem_type", ["", URL, f"{URL}#", f"{URL}#1000", "#110", "#low-balance"]
)
def test_a_fragment_counts_only_beside_its_status(problem_type: str) -> None:
    assert problem(500, problem_type) is lookup("problem", "500")
    assert problem(429, problem_type) is lookup("problem", "429")
    assert not problem(418, problem_type).known
