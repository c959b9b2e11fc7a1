"""One API call as it was captured: what was asked of Vonage, and what it answered."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Exchange(Struct, frozen=True, kw_only=True):
    """Input of the parsers of sends. They take single fields out of it: text and credentials, which
    the request may hold, go no further."""

    send_id: str
    arrived_at_us: int
    request: dict[str, Any]
    answer_status: int | None  # HTTP; None: no answer came, the message may be on its way
    answer: Any  # parsed JSON, or what else came
    account: str | None = None
    requested_at_us: int | None = None
    answered_at_us: int | None = None
