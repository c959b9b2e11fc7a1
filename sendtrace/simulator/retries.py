"""When Vonage tries again, and when it gives up (docs/vonage.md 7). Data."""

from __future__ import annotations

from dataclasses import dataclass

from sendtrace.simulator.endings import HOUR
from sendtrace.simulator.webhook import Webhook

# Where time runs a thousand times faster, pauses would be a storm that nothing survives.
SHORTEST_PAUSE_SECONDS = 0.05
CONNECT_TIMEOUT_SECONDS = 3.0
ANSWER_TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class RetryPlan:
    """Pauses between attempts, and for how long there are any."""

    first_pause_seconds: float
    factor: float
    longest_pause_seconds: float
    for_seconds: float

    def pause_seconds(self, failures: int, divisor: float = 1.0) -> float:
        """The pause after so many failed attempts (at least one)."""
        grown = self.first_pause_seconds * self.factor ** min(failures - 1, 32)
        return max(min(grown, self.longest_pause_seconds) / divisor, SHORTEST_PAUSE_SECONDS)


MESSAGES = RetryPlan(5.0, 2.0, 15 * 60.0, 24 * HOUR)
SMS_INBOUND = RetryPlan(60.0, 1.0, 60.0, 24 * HOUR)
RECEIPTS = RetryPlan(60.0, 1.0, 60.0, 72 * HOUR)
# Not Vonage's but an application's that records its sends: it waits for a restart of the stack.
SENDS = RetryPlan(0.2, 2.0, 5.0, 180.0)


def plan_of(webhook: Webhook) -> RetryPlan:
    if webhook.api == "messages":
        return MESSAGES
    return SMS_INBOUND if webhook.kind == "inbound" else RECEIPTS


def is_retried(status: int | None) -> bool:
    """What comes again: 429, 5xx, and where no answer came (None). Everything else is final."""
    return status is None or status == 429 or status >= 500
