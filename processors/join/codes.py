"""What went wrong: the code that goes with the outcome, and its category.

1. A category goes with an outcome that is no success and not under way; ``delivered`` with 1300 and
   ``accepted`` with 7 have a code and no category.
2. ``expired`` means that nobody confirmed: ``no_confirmation``, not a failure of content or number.
3. A failure that names no code is ``unknown``. A code that the catalogue does not have is data too.

Source: docs/rules.md 3; the catalogue is ``schemas/vonage/errors.py``.
"""

from __future__ import annotations

from schemas.events import Fact, Send
from schemas.lifecycle import Outcome
from schemas.vonage import errors

_FAILED: frozenset[Outcome] = frozenset({"rejected", "failed", "undeliverable"})

# Code, category, and whether the catalogue has the code.
Told = tuple[str | None, str | None, bool]


def code_of(outcome: Outcome, leading: Fact | None, send: Send | None) -> Told:
    """The code is the leading fact's; of a refused send it is the answer's."""
    if outcome == "refused" and send is not None:
        return _of_answer(send)
    if leading is None:
        return None, "no_confirmation" if outcome == "expired" else None, True
    code = leading.code
    if outcome == "expired":
        return code or None, "no_confirmation", not code or _error_of(leading).known
    if outcome in _FAILED or (outcome == "unknown" and code):
        if not code:
            return None, "unknown", True
        error = _error_of(leading)
        return code, error.category, error.known
    return code or None, None, True


def _error_of(fact: Fact) -> errors.Error:
    if fact.kind == "receipt":
        return errors.lookup("dlr", fact.code)
    return errors.lookup("messages", fact.code, fact.version or "v1")


def _of_answer(send: Send) -> Told:
    """The SMS API's status, or the HTTP status and fragment of the Messages API."""
    code = send.answer_status
    if send.api != "messages":
        error = errors.lookup("sms_send", code or "")
    else:
        error = errors.lookup("problem", f"{code}#{send.error_code}")
        if not error.known:
            error = errors.lookup("problem", code or "")
    return code, error.category if code else "unknown", error.known
