"""Writes ``tests/data/corpus_golden.jsonl``: what each body of ``corpus.jsonl`` is decoded to.

python tools/corpus_golden.py

A difference that it makes is to be read row by row before it is kept: where the golden line was
right, the decoder is to be mended and not the line.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from schemas.vonage.jsonl import Line, normalise

DATA = Path(__file__).parents[1] / "tests" / "data"
# Whoever asks says what he looks for; what a body is for is the corpus's `kind`.
HINTS = {
    "messages_status": "status",
    "messages_inbound": "inbound",
    "sms_dlr": "receipt",
    "sms_inbound": "inbound",
    "alert_dlr": "alerts",
    "alert_response": "alerts",
}


def main() -> None:
    lines = []
    for row in (DATA / "corpus.jsonl").read_bytes().splitlines():
        given = msgspec.json.decode(row)
        hint = HINTS.get(given["kind"], "send")
        line = msgspec.convert(
            {"format": given["format"], "body": given["body"], "hint": hint}, Line
        )
        lines.append(msgspec.json.encode({"hint": hint, "event": normalise(line)}))
    (DATA / "corpus_golden.jsonl").write_bytes(b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    main()
