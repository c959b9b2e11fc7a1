"""Reads ``tales.md``: what happened, sentence by sentence, and what must have become of it.

A sentence that does not follow the grammar is an error: nothing is skipped. The bytes that a
sentence stands for are as Vonage sends them. Seconds count from the moment of the first send, so
that a story can be told at any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from msgspec import Struct

from schemas.numbers import SECOND_US, iso_us
from schemas.vonage.sms import FORM

OURS = "abcd1234"  # the account whose messages these are
RECIPIENT, SENDER = "447400123456", "Acme"
_CHANNELS = {"SMS": "sms", "RCS": "rcs", "WhatsApp": "whatsapp"}
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}
_TOOK_S = 0.25  # from a request to its answer, which came at 0 s

Cells = dict[str, str]


class StoryError(Exception):
    """A sentence or table of ``tales.md`` does not follow the grammar."""


class Sent(Struct, frozen=True, kw_only=True):
    """An API call and its answer, as the application tells us with ``POST /sends``."""

    at_s: float
    api: Literal["messages", "sms"]
    send_id: str
    request: dict[str, Any]
    answer_status: int
    answer: dict[str, Any]

    def body(self, start_us: int) -> bytes:
        call = {
            "api": self.api, "send_id": self.send_id, "account": OURS, "request": self.request,
            "answer": {"status": self.answer_status, "body": self.answer},
            "requested_at": iso_us(us(start_us, -_TOOK_S)), "answered_at": iso_us(start_us),
        }  # fmt: skip
        return json.dumps(call).encode()


class Webhook(Struct, frozen=True, kw_only=True):
    """``account``: whose signature it has, "" for none. ``said_s`` is Vonage's time."""

    at_s: float
    kind: Literal["status", "receipt"]
    fields: dict[str, Any]
    said_s: float
    account: str

    @property
    def path(self) -> str:
        return "/webhooks/status" if self.kind == "status" else "/webhooks/dlr"

    @property
    def content_type(self) -> str:
        return "application/json" if self.kind == "status" else f"{FORM}; charset=UTF-8"

    def body(self, start_us: int) -> bytes:
        said = iso_us(us(start_us, self.said_s))[:19]
        if self.kind == "status":
            return json.dumps({**self.fields, "timestamp": said + "Z"}).encode()
        told = {**self.fields, "message-timestamp": said.replace("T", " ")}
        return urlencode(told).encode()


Step = Sent | Webhook


class Story(Struct, frozen=True, kw_only=True):
    """``until_s``: how long the world goes on in silence. Then each message, and each send of
    several, has these cells and no others."""

    name: str
    steps: tuple[Step, ...]
    until_s: float
    messages: dict[str, Cells]
    rollups: dict[str, Cells]


def us(start_us: int, second: float) -> int:
    return start_us + round(second * SECOND_US)


def seconds(text: str) -> float:
    """``72 h 1 s`` is 259,201."""
    parts = re.findall(r"(-?[\d.]+) (s|min|h)\b", text)
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


# -- sentences -----------------------------------------------------------------------------------

_TIME = r"-?[\d.]+ (?:s|min|h)(?: [\d.]+ s)?"
_SENT = re.compile(
    rf"At ({_TIME}) we hear of (\S+), sent by the (SMS|Messages) API((?: by| without) .+?|): (.+)"
)
_CAME = re.compile(rf"At ({_TIME}) a (status|receipt): (\S+) (\w+) at ({_TIME})(?:, (.+))?")
_REMARK = re.compile(r"\. [A-Z].*$")


def step(sentence: str) -> Step:
    text = _REMARK.sub("", sentence).removesuffix(".")
    if sent := _SENT.fullmatch(text):
        at, send_id, api, how, answers = sent.groups()
        tell = _sms_call if api == "SMS" else _messages_call
        return tell(seconds(at), send_id, how.strip(), answers.split(", "))
    if came := _CAME.fullmatch(text):
        at, kind, message_id, word, said, rest = came.groups()
        tell_webhook = _status if kind == "status" else _receipt
        clauses = rest.split(", ") if rest else []
        return tell_webhook(seconds(at), seconds(said), message_id, word, clauses)
    raise StoryError(sentence)


def _sms_call(at_s: float, send_id: str, how: str, answers: list[str]) -> Sent:
    request = {"from": SENDER, "to": RECIPIENT, "text": "never kept"}
    if how == "without asking for receipts":
        request["status-report-req"] = "false"
    elif how:
        raise StoryError(how)
    parts = [_part(told) for told in answers]
    return Sent(
        at_s=at_s, api="sms", send_id=send_id, request=request, answer_status=200,
        answer={"message-count": str(len(parts)), "messages": parts},
    )  # fmt: skip


def _part(told: str) -> dict[str, str]:
    if told == "a part throttled":
        return {"status": "1", "error-text": "Throttled"}
    accepted = re.fullmatch(r"(\S+) accepted", told)
    if accepted is None:
        raise StoryError(told)
    return {
        "to": RECIPIENT, "message-id": accepted[1], "status": "0", "remaining-balance": "10.00",
        "message-price": "0.04", "network": "23410",
    }  # fmt: skip


def _messages_call(at_s: float, send_id: str, how: str, answers: list[str]) -> Sent:
    ways = [_CHANNELS[way] for way in how.removeprefix("by ").split(" and else by ")]
    items = [{"channel": way, "to": RECIPIENT, "from": SENDER} for way in ways]
    request: dict[str, Any] = {**items[0], "message_type": "text", "text": "never kept"}
    if items[1:]:
        request["failover"] = items[1:]
    answer: dict[str, str] = {}
    for told in answers:
        if accepted := re.fullmatch(r"(\S+) accepted", told):
            answer["message_uuid"] = accepted[1]
        elif workflow := re.fullmatch(r"workflow (\S+)", told):
            answer["workflow_id"] = workflow[1]
        else:
            raise StoryError(told)
    return Sent(
        at_s=at_s, api="messages", send_id=send_id, request=request, answer_status=202,
        answer=answer,
    )  # fmt: skip


def _receipt(at_s: float, said_s: float, message_id: str, word: str, clauses: list[str]) -> Webhook:
    code = "0"
    for clause in clauses:
        told = re.fullmatch(r"code (\d+)", clause)
        if told is None:
            raise StoryError(clause)
        code = told[1]
    fields = {
        "msisdn": RECIPIENT, "to": SENDER, "network-code": "23410", "messageId": message_id,
        "price": "0.03330000", "status": word, "scts": "2611220500", "err-code": code,
        "api-key": OURS,
    }  # fmt: skip
    return Webhook(at_s=at_s, kind="receipt", fields=fields, said_s=said_s, account="")


def _status(at_s: float, said_s: float, message_id: str, word: str, clauses: list[str]) -> Webhook:
    fields: dict[str, Any] = {
        "message_uuid": message_id, "to": RECIPIENT, "from": SENDER, "status": word,
    }  # fmt: skip
    account = OURS
    for clause in clauses:
        if way := re.fullmatch(r"by (\w+)", clause):
            fields |= {"channel": _CHANNELS[way[1]]} | (_OF_SMS if way[1] == "SMS" else {})
        elif item := re.fullmatch(r"item (\d) of (\d) of (\S+)", clause):
            number, total, flow = item.groups()
            of = {"workflow_id": flow, "items_number": number, "items_total": total}
            fields["workflow"] = of
        elif error := re.fullmatch(r"error (\d+)", clause):
            fields["error"] = {
                "type": f"https://developer.vonage.com/api-errors/messages#{error[1]}",
                "title": error[1], "detail": "In words", "instance": "bf0ca0bf",
            }  # fmt: skip
        elif price := re.fullmatch(r"price ([\d.]+) ([A-Z]{3})", clause):
            fields["usage"] = {"price": price[1], "currency": price[2]}
        elif signed := re.fullmatch(r"signed by (\d+)", clause):
            account = signed[1]
        else:
            raise StoryError(clause)
    return Webhook(at_s=at_s, kind="status", fields=fields, said_s=said_s, account=account)


_OF_SMS = {
    "usage": {"currency": "EUR", "price": "0.0333"},
    "destination": {"network_code": "23410"},
    "sms": {"count_total": "1"},
}


# -- the document --------------------------------------------------------------------------------


def read(path: Path) -> tuple[Story, ...]:
    """All stories. What stands before the first is what every message has."""
    preface, *chapters = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)
    [common] = [table["every message"] for table in _tables(preface)]
    return tuple(_story(chapter, common) for chapter in chapters)


def _story(chapter: str, common: Cells) -> Story:
    name = chapter.partition("\n")[0]
    sentences = re.findall(r"^- (.+(?:\n  .+)*)", chapter, re.MULTILINE)
    [until] = re.findall(rf"^After ({_TIME}):$", chapter, re.MULTILINE)
    messages, *rollups = _tables(chapter)
    return Story(
        name=name,
        steps=tuple(step(re.sub(r"\s+", " ", sentence)) for sentence in sentences),
        until_s=seconds(until),
        messages={message_id: common | cells for message_id, cells in messages.items()},
        rollups=rollups[0] if rollups else {},
    )


def _tables(text: str) -> Iterator[dict[str, Cells]]:
    """Each table, column by column. An empty cell is none."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = [
            [cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in block.splitlines()
        ]
        yield {
            column: {row[0]: row[number] for row in rows if row[number]}
            for number, column in enumerate(head)
            if number
        }


TALES = read(Path(__file__).parent / "tales.md")
