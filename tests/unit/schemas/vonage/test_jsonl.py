"""``sendtrace decode --jsonl``: a line in, a line out, and no line fails."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from schemas.vonage.jsonl import decode_line
from schemas.vonage.reasons import Reason
from sendtrace.cli import cli


def run(body: str, form: str = "json", hint: str | None = None) -> dict[str, Any]:
    line = json.dumps({"format": form, "body": body, "hint": hint}).encode()
    result: dict[str, Any] = json.loads(decode_line(line))
    return result


def test_a_receipt() -> None:
    body = "?messageId=m&status=Delivered&err-code=0&price=0,04870000&msisdn=447"
    assert run(body, "query", "receipt") == {
        "kind": "receipt",
        "api": "sms_or_alerts",
        "message_id": "m",
        "status": "delivered",
        "channel": "sms",
        "recipient": "447",
        "price_units": 4_870_000,
    }
    assert run(body, "query", "alerts")["api"] == "alerts"


def test_the_content_decides_and_the_hint_helps() -> None:
    status = '{"message_uuid":"u","status":"read"}'
    for hint in ("status", "receipt", "inbound", "alerts", None):
        assert run(status, hint=hint)["kind"] == "status"
    assert run(status, hint="send")["kind"] == "send_answer"
    accepted = '{"message_uuid":"u"}'
    assert run(accepted, hint="inbound") == {
        "kind": "quarantine",
        "reason": Reason.NO_STATUS.value,
    }
    assert run(accepted, hint="null") == run(accepted)
    assert run(accepted)["kind"] == run(accepted, hint="send")["kind"] == "send_answer"


@pytest.mark.parametrize(
    ("body", "form", "kind", "api"),
    [
        ("api_key=k&to=447&text=x", "form", "send_request", "sms"),
        ('{"to":"447","channel":"rcs"}', "json", "send_request", "messages"),
        ('{"status":"revoked"}', "json", "send_update", "messages"),
        ('{"messages":[{"status":"0"},{"status":"1"}]}', "json", "send_answer", "sms"),
        ("<mt-submission-response><messages><message><status>0</status></message></messages>"
         "</mt-submission-response>", "xml", "send_answer", "sms"),
        ('{"type":"https://x#1150","title":"t"}', "json", "error", "messages"),
        ('{"error-code":"401","error-code-label":"no"}', "json", "error", "sms"),
    ],
)  # fmt: skip
def test_calls(body: str, form: str, kind: str, api: str) -> None:
    found = run(body, form, "send")
    assert (found["kind"], found["api"]) == (kind, api)


def test_an_alerts_request_and_its_answer() -> None:
    found = run("api_key=k&to=16365553226&template=1&server=x", "query", "alerts")
    assert (found["kind"], found["api"], found["receipt_expected"]) == (
        "send_request", "alerts", False,
    )  # fmt: skip
    assert run('{"messages":[{"status":"0"}]}', hint="alerts")["api"] == "alerts"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", Reason.LINE),
        (b"{", Reason.LINE),
        (b"[]", Reason.LINE),
        (b'{"format":"yaml","body":""}', Reason.LINE),
        (b'{"format":"json"}', Reason.LINE),
        (b'{"format":"json","body":5}', Reason.LINE),
        (b'{"format":"json","body":"","hint":"odd"}', Reason.LINE),
        (b"\xff", Reason.LINE),
        (b'{"a":' * 100_000, Reason.LINE),
        (b'{"format":"json","body":""}', Reason.EMPTY),
        (b'{"format":"json","body":"","hint":"send"}', Reason.EMPTY),
        (b'{"format":"json","body":"{}","hint":"send"}', Reason.NO_SEND),
        (b'{"format":"json","body":"{}","hint":null,"more":1}', Reason.NO_MESSAGE_ID),
        (b'{"format":"xml","body":"<a/>","hint":"send"}', Reason.NOT_XML),
        (b'{"format":"xml","body":"<a/>"}', Reason.CONTENT_TYPE),
        (b'{"format":"json","body":"1e999","hint":"send"}', Reason.NOT_AN_OBJECT),
        (b'{"format":"json","body":"{\\"to\\":1e999}","hint":"send"}', Reason.NUMBER_RANGE),
    ],
)
def test_what_cannot_be_used_has_its_reason(line: bytes, reason: Reason) -> None:
    assert json.loads(decode_line(line)) == {"kind": "quarantine", "reason": reason.value}


def test_the_command_gives_a_line_for_a_line() -> None:
    lines = [b'{"format":"json","body":"{}"}', b"", b"\xff", b'{"format":"query","body":"to=4"}']
    result = CliRunner().invoke(cli, ["decode", "--jsonl"], input=b"\n".join(lines))
    assert result.exit_code == 0
    assert result.stdout_bytes == b"".join(decode_line(line) + b"\n" for line in lines)
    assert CliRunner().invoke(cli, ["decode"]).exit_code == 2
