"""Whether a saved position still means something in the log that is there. Pure.

A position is saved with the id of its topic. It counts while the topic has that id and the log
holds the offset; anything else is a gap, and stops the process: going on from elsewhere in silence
would lose records. Who was told and wants to go on says so (``--accept-gap``, decision 0050).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from sendtrace.runtime.kafka import Partition
from sendtrace.runtime.task import PositionLost

Reason = Literal["deleted", "remade", "cut"]


class Bounds(NamedTuple):
    """Which offsets a partition holds."""

    begin: int
    end: int


class Saved(NamedTuple):
    """The next offset to read, and the topic that it is of. None: saved before ids were."""

    next: int
    topic_id: str | None = None


class Gap(NamedTuple):
    """A position that cannot be gone on from, and where the log begins now."""

    partition: Partition
    reason: Reason
    saved: int
    bounds: Bounds

    @property
    def next(self) -> int:
        """Where to go on once it is accepted. What may have been read before is read again, which
        changes nothing: nothing that is there is left out."""
        return self.bounds.begin

    @property
    def records(self) -> int:
        """Offsets of the log that is there which nobody will read. What the end of a log that is
        gone held is not known, and not in it."""
        return self.bounds.begin - (self.saved if self.reason == "deleted" else 0)

    @property
    def starts_anew(self) -> bool:
        """Whether offsets that were read once are now those of other records."""
        return self.reason != "deleted"

    def __str__(self) -> str:
        topic, partition = self.partition
        at, (begin, end) = self.saved, self.bounds
        what = {
            "deleted": f"it begins at {begin}: {self.records} offsets were deleted unread",
            "remade": "the topic was made anew, and its offsets are of other records",
            "cut": f"it ends at {end}: the log was cut, or the topic made anew",
        }[self.reason]
        return f"{topic}-{partition}: the next offset to read is {at}, but {what}"


def gap_of(
    partition: Partition, saved: Saved, bounds: Bounds, topic_id: str | None = None
) -> Gap | None:
    """None where the position is good. ``topic_id`` is that of the topic that is there."""
    reason: Reason
    if saved.topic_id and topic_id and saved.topic_id != topic_id:
        reason = "remade"
    elif saved.next < bounds.begin:
        reason = "deleted"
    elif saved.next > bounds.end:
        reason = "cut"
    else:
        return None
    return Gap(partition, reason, saved.next, bounds)


def gaps_of(
    saved: Mapping[Partition, Saved],
    bounds: Mapping[Partition, Bounds],
    topic_ids: Mapping[str, str],
) -> list[Gap]:
    """All of them, in order. ``topic_ids`` are of the topics that are there, by full name."""
    found = (
        gap_of(partition, saved[partition], bounds[partition], topic_ids.get(partition.topic))
        for partition in sorted(saved)
    )
    return [gap for gap in found if gap is not None]


def refuse(gap: Gap) -> PositionLost:
    """The error that says it, and what to do."""
    return PositionLost(
        f"{gap}. Restore the topic, or start once with --accept-gap to go on at offset {gap.next}"
    )
