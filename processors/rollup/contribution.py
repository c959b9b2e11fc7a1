"""What a rollup adds to the totals: one send or workflow, by its outcome.

The counters move as those of messages do: see processors/join/contribution.py. So rates per
workflow stand beside rates per message (docs/rules.md 2).
"""

from __future__ import annotations

from functools import lru_cache

from processors.join.contribution import Contribution
from processors.join.standing import NOWHERE, Standing, labels_of
from schemas.metrics import ROLLUPS
from schemas.rollup import Kind, Rollup, RollupOutcome

NOTHING = Contribution((NOWHERE,))

# Label values of one task: hundreds.
_REMEMBERED = 4_096


def contribution(rollup: Rollup) -> Contribution:
    s = rollup.summary
    if s is None or not s.known:  # all its messages moved, and stand there
        return NOTHING
    return Contribution(
        (_standing(s.account, s.api, s.channel, rollup.kind, s.outcome, s.traffic),)
    )


@lru_cache(_REMEMBERED)
def _standing(
    account: str | None,
    api: str | None,
    channel: str | None,
    kind: Kind,
    outcome: RollupOutcome,
    traffic: str,
) -> Standing:
    labels = labels_of(ROLLUPS, account, api, channel, kind, outcome, traffic)
    return Standing({(labels, ROLLUPS.name): 1})
