"""584 real or documented payloads: each is decoded as it was reviewed, and keeps being so.

The corpus is a sample, not the universe: so keys are shuffled, unknown ones added, bytes broken.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import topics
from schemas.vonage.decode import Unusable, decode, decode_inbound
from schemas.vonage.detect import Detected, Quarantine, detect
from schemas.vonage.jsonl import Line, decode_line, normalise
from schemas.vonage.reasons import Reason
from schemas.vonage.sms import FORM

DATA = Path(__file__).parents[3] / "data"
ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in (DATA / "corpus.jsonl").read_text().splitlines()
]
GOLDEN: list[dict[str, Any]] = [
    json.loads(line) for line in (DATA / "corpus_golden.jsonl").read_text().splitlines()
]
KINDS = ("messages_status", "messages_inbound", "sms_dlr", "sms_inbound", "alert_dlr")
WEBHOOKS = [index for index, row in enumerate(ROWS) if row["kind"] in KINDS]
QUARANTINED = [index for index in WEBHOOKS if GOLDEN[index]["event"]["kind"] == "quarantine"]
USABLE = [index for index in WEBHOOKS if index not in QUARANTINED]
REASONS = {reason.value for reason in Reason}


def decoded(row: dict[str, Any], body: str, hint: Any) -> dict[str, Any]:
    return normalise(Line(row["format"], body, hint))


def content_type(row: dict[str, Any]) -> str:
    return "application/json" if row["format"] == "json" else FORM


def test_the_golden_file_is_complete() -> None:
    assert len(ROWS) == len(GOLDEN) == 584


@pytest.mark.parametrize("index", range(584))
def test_each_payload_is_decoded_as_reviewed(index: int) -> None:
    assert (
        decoded(ROWS[index], ROWS[index]["body"], GOLDEN[index]["hint"]) == GOLDEN[index]["event"]
    )


def test_what_is_quarantined_is_little_and_has_its_sentence() -> None:
    lines = (DATA / "corpus_quarantined.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    listed = {int(row): (kind, reason) for row, kind, reason, why in cells[2:] if len(why) > 40}
    found = {i: (ROWS[i]["kind"], GOLDEN[i]["event"]["reason"]) for i in QUARANTINED}
    assert listed == found
    assert len(found) <= 15


def by_key(body: str, form: str) -> tuple[str, str | None]:
    """Id and status as the body has them: no parser of ours has a part in this."""
    if form == "json":
        fields = json.loads(body, strict=False)
    else:
        fields = dict(parse_qsl(body.removeprefix("?"), keep_blank_values=True))
    message = fields["message_uuid"] if "message_uuid" in fields else fields["messageId"]
    status = fields.get("status")
    return str(message), None if status is None else status.lower()


@pytest.mark.parametrize("index", USABLE)
def test_ids_and_statuses_agree_with_the_body(index: int) -> None:
    event, row = GOLDEN[index]["event"], ROWS[index]
    assert (event["message_id"], event.get("status")) == by_key(row["body"], row["format"])
    assert event["kind"] == ("inbound" if event.get("status") is None else event["kind"])
    assert event["kind"] in ("status", "receipt", "inbound")


@pytest.mark.parametrize("index", USABLE)
def test_without_a_hint_webhooks_are_told_by_their_content(index: int) -> None:
    event = decoded(ROWS[index], ROWS[index]["body"], None)
    if ROWS[index]["api"] == "alerts":
        event["api"] = "alerts"  # nothing in a receipt says so: only the hint did
    assert event == GOLDEN[index]["event"]


@pytest.mark.parametrize("index", WEBHOOKS)
def test_the_edge_and_the_decoders_agree(index: int) -> None:
    body, form = ROWS[index]["body"].encode(), content_type(ROWS[index])
    found = detect("POST", "/webhooks/x", b"", form, body)
    if isinstance(found, Quarantine):
        assert index in QUARANTINED
        return
    headers = [("content-type", form.encode())]
    if found.topic == topics.INBOUND:
        event = decode_inbound(found.value, headers, 5)
        assert not isinstance(event, Unusable)
        assert found.key.decode() == (event.sender or event.message_id)
    else:
        assert decode(found.topic, found.value, headers, 5).message_id.encode() == found.key  # type: ignore[union-attr]


UNKNOWN_KEYS = st.dictionaries(
    st.text("abcxyz-_", max_size=6).map("zz".__add__),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    ),
    max_size=3,
)


ODD = {"zz": None, "zz-n": 7, "zz-t": "7", "zz-l": [{"status": "odd"}], "zz-o": {"status": "odd"}}


def reversed_with_odd_keys(value: Any) -> Any:
    if isinstance(value, list):
        return [reversed_with_odd_keys(item) for item in value]
    if not isinstance(value, dict):
        return value
    return ODD | {key: reversed_with_odd_keys(value[key]) for key in reversed(value)} | {"zzz": 7}


@pytest.mark.parametrize("index", [i for i in USABLE if ROWS[i]["format"] == "json"])
def test_every_object_backwards_and_with_unknown_keys(index: int) -> None:
    body = json.dumps(reversed_with_odd_keys(json.loads(ROWS[index]["body"], strict=False)))
    assert decoded(ROWS[index], body, GOLDEN[index]["hint"]) == GOLDEN[index]["event"]


@given(st.sampled_from(USABLE), st.data())
def test_order_and_unknown_keys_change_nothing(index: int, data: st.DataObject) -> None:
    row = ROWS[index]

    def vary(value: Any) -> Any:
        if not isinstance(value, dict):
            return [vary(item) for item in value] if isinstance(value, list) else value
        items = [(key, vary(inner)) for key, inner in value.items()]
        return dict(data.draw(st.permutations([*items, *data.draw(UNKNOWN_KEYS).items()])))

    if row["format"] == "json":
        body = json.dumps(vary(json.loads(row["body"], strict=False)))
    else:
        pairs = parse_qsl(row["body"], keep_blank_values=True)
        body = urlencode(data.draw(st.permutations([*pairs, ("zz", "1"), ("zz-text", "b&c")])))
    assert decoded(row, body, GOLDEN[index]["hint"]) == GOLDEN[index]["event"]


PIECES = st.sampled_from(
    [b'"', b"{", b"}", b"[", b"null", b"&", b"%", b"%FF", b"=", b"\\", b"\\ud800", b"\0", b"\xff",
     b"9" * 30, b"1e999", b"<", b"<!DOCTYPE a>", b"</message>", b'"status":{}', b"messageId="]
) | st.binary(max_size=4)  # fmt: skip


@st.composite
def broken(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    row = draw(st.sampled_from(ROWS))
    body = row["body"].encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        body = body[:start] + draw(PIECES) + body[start + draw(st.integers(0, 6)) :]
    return row, body


@given(
    broken() | st.binary(max_size=60).map(lambda raw: (ROWS[0], raw)),
    st.sampled_from(["GET", "POST"]),
)
def test_broken_bytes_never_raise(given: tuple[dict[str, Any], bytes], method: str) -> None:
    row, body = given
    for form in (content_type(row), None, FORM, "application/json", "text/xml; charset=x"):
        found = detect(method, "/webhooks", body, form, body)
        headers = (
            [] if found.content_type is None else [("content-type", found.content_type.encode())]
        )
        for topic in (topics.STATUSES, topics.RECEIPTS, topics.SENDS, topics.INBOUND):
            decode(topic, found.value, headers, 1)
        event = decode_inbound(found.value, headers, 1)
        # The edge skips what it does not need: a broken value there is found only here.
        if isinstance(found, Detected) and found.topic == topics.INBOUND:
            assert not isinstance(event, Unusable) or event.reason in BROKEN_VALUES
        else:
            assert isinstance(event, Unusable)
    for hint in ("status", "receipt", "inbound", "alerts", "send", None):
        for form in ("json", "form", "query", "xml"):
            line = {"format": form, "body": body.decode("utf-8", "replace"), "hint": hint}
            result = json.loads(decode_line(json.dumps(line).encode()))
            assert result["kind"] != "quarantine" or result["reason"] in REASONS


BROKEN_VALUES = (Reason.NOT_JSON, Reason.NUMBER_RANGE)


@given(st.binary(max_size=60) | st.sampled_from(ROWS).map(msgspec.json.encode))
def test_no_line_makes_jsonl_fail(line: bytes) -> None:
    result = json.loads(decode_line(line))
    assert result["kind"] in {
        "status", "receipt", "inbound", "send_request", "send_update", "send_answer", "error",
        "quarantine",
    }  # fmt: skip
