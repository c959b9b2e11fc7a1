"""When the edge last refused for reasons of its own. Pure: the time comes in.

What Vonage had to send again says nothing about Vonage's speed, so what is accepted soon after a
refusal is marked (header ``ce_afterrefusal``), and the `callback` latency leaves it out.

A webhook that failed verification counts only once a new accounts file is there: until then it may
be a stranger's, who would take the latency of all others away. This edge knows of its own refusals
only, not of its predecessor's or of another replica's.
"""

from __future__ import annotations

from ingest.errors import MENDABLE, Answer


class Refusals:
    """``last_us`` is None as long as nothing was refused. ``after_us``: how long what is accepted
    after a refusal is marked."""

    def __init__(self, after_us: int) -> None:
        self._after_us = after_us
        self.last_us: int | None = None
        self._are_mendable = False

    def note(self, answer: Answer, now_us: int) -> None:
        """Every answer of the public port goes through here."""
        if answer.is_ours:
            self.last_us = now_us
        elif answer in MENDABLE:
            self._are_mendable = True

    def mended(self, now_us: int) -> None:
        """There is a new accounts file: what was refused under the old one may come now."""
        if self._are_mendable:
            self._are_mendable = False
            self.last_us = now_us

    def is_after(self, now_us: int) -> bool:
        """Whether a record that is accepted now is to be marked."""
        return self.last_us is not None and now_us - self.last_us <= self._after_us

    def since(self, at_us: int) -> bool:
        """Whether something was refused at that time or later."""
        return self.last_us is not None and self.last_us >= at_us
