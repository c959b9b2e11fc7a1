"""The log of requests: what was in flight at a kill is known as such, and no secret is in it."""

from __future__ import annotations

from pathlib import Path

from schemas.codec import event_id
from sendtrace.simulator.requests import open_requests, read_requests
from sendtrace.simulator.webhook import Request

POST = Request("POST", "/webhooks/t0ken/status", body=b"{}", shown_path="/webhooks/status")
GET = Request("GET", "/webhooks/dlr", query="a=1&b=%20", shown_path="/webhooks/dlr")


def test_each_answer_is_told_from_the_others(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with open_requests(path) as log:
        sent = [log.sending(POST, (f"id-{n}",), n) for n in range(4)]
        log.answered(sent[2], None)
        log.answered(sent[1], 503)
        log.answered(sent[0], 200)
    found = read_requests(path)
    assert [one.answer for one in found] == ["200", "other", "cut", "in flight"]
    assert [one.status for one in found] == [200, 503, None, None]
    assert [one.sent.ids for one in found] == [("id-0",), ("id-1",), ("id-2",), ("id-3",)]


def test_the_id_is_the_edges_and_the_token_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with open_requests(path) as log:
        log.sending(POST, (), 1)
        log.sending(GET, (), 2)
        post, get = read_requests(path)  # before anything was answered or closed
    assert post.sent.ce_id == event_id("POST", "/webhooks/status", b"{}")
    assert get.sent.ce_id == event_id("GET", "/webhooks/dlr", b"a=1&b=%20")
    assert b"t0ken" not in path.read_bytes()
    assert b"%20" not in path.read_bytes()


def test_runs_and_half_written_lines_do_not_get_into_each_others_way(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with open_requests(path) as log:
        log.sending(POST, ("first",), 1)
    with path.open("ab") as file:
        file.write(b'{"line":"answer","n":"')
    with open_requests(path) as log:
        log.answered(log.sending(POST, ("second",), 2), 200)
    assert [(one.sent.ids[0], one.answer) for one in read_requests(path)] == [
        ("first", "in flight"),
        ("second", "200"),
    ]
