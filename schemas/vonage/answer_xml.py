"""Answers of the SMS and Alerts API in XML, as the list that JSON has (docs/vonage.md 9).

The order of elements varies, attributes have single quotes, elements may be empty, missing or
unknown. A document type is refused: entities could blow up, and no answer has one.
"""

from __future__ import annotations

from typing import Any, NoReturn
from xml.parsers import expat

from schemas.vonage.reasons import NotUnderstoodError, Reason


def is_xml(value: object) -> bool:
    """Text that begins like a document: an answer in XML, kept as it came."""
    return type(value) is str and value.lstrip("\ufeff \t\r\n").startswith("<")


def parse_answer(document: str) -> dict[str, Any]:
    """``{"messages": [{"messageId": "..."}, ...]}``. Raises NotUnderstoodError."""
    reader = _Reader()
    try:
        # The text was decoded before, so what the document says of its encoding is past.
        parser = expat.ParserCreate(encoding="utf-8")
        parser.StartElementHandler = reader.start
        parser.EndElementHandler = reader.end
        parser.CharacterDataHandler = reader.characters
        parser.StartDoctypeDeclHandler = _refuse
        parser.Parse(document.lstrip("\ufeff \t\r\n").encode("utf-8", "replace"), True)
    except (expat.ExpatError, ValueError):
        raise NotUnderstoodError(Reason.NOT_XML) from None
    if not reader.is_answer:
        raise NotUnderstoodError(Reason.NOT_XML)
    return {"messages": reader.messages}


def _refuse(*_: object) -> NoReturn:
    raise NotUnderstoodError(Reason.NOT_XML)


class _Reader:
    """Collects each ``message`` element's children by name; deeper ones add to their text."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        self.is_answer = False
        self._depth = 0
        self._message_depth = 0  # 0: not in a message
        self._name = ""
        self._text: list[str] = []

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1:
            self.is_answer = name == "mt-submission-response"
        elif not self._message_depth and name == "message":
            self._message_depth = self._depth
            self.messages.append({})
        elif self._depth == self._message_depth + 1:
            self._name, self._text = name, []

    def characters(self, data: str) -> None:
        if self._message_depth and self._depth > self._message_depth:
            self._text.append(data)

    def end(self, _name: str) -> None:
        if self._message_depth and self._depth == self._message_depth + 1:
            self.messages[-1][self._name] = "".join(self._text).strip()
        elif self._depth == self._message_depth:
            self._message_depth = 0
        self._depth -= 1
