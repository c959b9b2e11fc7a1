"""Problem bodies: ``{type, title, detail, instance}`` (docs/vonage.md 9).

In the answer of a refused call ``title`` is text and the code is the fragment of ``type``, a number
or a word; in a status webhook ``title`` is the code. Fragments are not reliable: what one means
depends on the HTTP status beside it (``errors.problem``).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from schemas.vonage.fields import code, ident, text, whole, word


class Problem(Struct, frozen=True, omit_defaults=True):
    """Why a call was refused."""

    code: str | None = None
    text: str | None = None
    instance: str | None = None


NO_PROBLEM = Problem()


def problem_code(problem_type: object) -> str:
    """``https://.../api-errors/messages#1150`` to ``1150``; ``""`` where the fragment is a word."""
    fragment = _fragment(problem_type) or ""
    return code(fragment) if whole(fragment) is not None else ""


def problem(body: dict[str, Any]) -> Problem:
    """A problem body, or the old ``{"error-code", "error-code-label"}`` of rest.nexmo.com."""
    fragment = _fragment(body.get("type")) or word(body.get("error-code"))
    title = text(body.get("title")) or text(body.get("error-code-label"))
    detail = text(body.get("detail")) or text(body.get("details"))
    words = ": ".join(filter(None, (title, detail)))
    if fragment is not None and whole(fragment) is not None:
        words = f"#{fragment} {words}".strip()
    return Problem(fragment, text(words), ident(body.get("instance")))


def is_problem(body: dict[str, Any]) -> bool:
    """Whether a body says why a call was refused. A WAP push has a type and a title too."""
    is_new = type(body.get("type")) is str and "title" in body
    return (is_new or "error-code-label" in body) and "to" not in body


def _fragment(problem_type: object) -> str | None:
    given = text(problem_type)
    if given is None or "#" not in given:
        return None
    return word(given.rpartition("#")[2].strip())
