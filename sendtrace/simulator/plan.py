"""A plan: one thing that is going to happen, with its future; and what every step of making one
needs: where chance comes from, when it is, what the scenario says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from sendtrace.simulator import endings
from sendtrace.simulator.endings import Ending, Story
from sendtrace.simulator.ledger import Inbound, Message, Rollup
from sendtrace.simulator.messages_payloads import Version
from sendtrace.simulator.parties import NETWORKS, Leg, Network, draw_network, leg
from sendtrace.simulator.scenario import Endings, Phase, Scenario
from sendtrace.simulator.sms_payloads import AnswerFormat
from sendtrace.simulator.webhook import Told, Webhook

# From request to answer, and how long until something comes a second time or late.
ANSWER_SECONDS, REPEAT_SECONDS, DELAY_SECONDS = 0.12, 5.0, 10.0
RECORD_SECONDS = 3.0


@dataclass(frozen=True)
class Plan:
    """One send, or none: what comes in, or what is told of a message that nobody told us of.
    ``webhooks`` are sorted by ``after_seconds``, which counts from the answer."""

    send: Mapping[str, object] | None
    record_after_seconds: float
    webhooks: tuple[Webhook, ...]
    messages: tuple[Message, ...] = ()
    rollups: tuple[Rollup, ...] = ()
    inbound: tuple[Inbound, ...] = ()

    @property
    def lines(self) -> list[Message | Rollup | Inbound]:
        """Of the ledger."""
        return [*self.messages, *self.rollups, *self.inbound]

    @property
    def sent_ids(self) -> tuple[str, ...]:
        """Of the messages that the send's record is about: its parts; else the first message, for
        further items of a failover, and what is told after no answer, have no send."""
        ids = tuple(message.message_id for message in self.messages)
        return ids if self.messages and self.messages[0].parts > 1 else ids[:1]

    @property
    def ids(self) -> list[str]:
        return [
            *(message.message_id for message in self.messages),
            *(rollup.id for rollup in self.rollups),
            *(inbound.message_id for inbound in self.inbound),
        ]


@dataclass(frozen=True)
class Now:
    """A moment of the simulated day. ``at_us`` is when the answer comes; times that are told are
    real, and how long things take is divided."""

    random: Random
    at_us: int
    scenario: Scenario
    phase: Phase
    time_scale: float
    is_verified: bool  # webhooks prove whose they are

    @property
    def divisor(self) -> float:
        return self.scenario.compression * self.time_scale

    def happens(self, share: float) -> bool:
        return self.random.random() < share

    def after_seconds(self, median_seconds: float, spread: float = 0.6) -> float:
        """Log-normal, as latencies are, and divided."""
        took = median_seconds * self.random.lognormvariate(0.0, spread)
        return min(took, self.scenario.longest_seconds) / self.divisor

    def times_us(self) -> tuple[int, int]:
        """Of the request and of its answer, which is now."""
        return self.at_us - int(self.after_seconds(ANSWER_SECONDS) * 1_000_000), self.at_us

    def network(self) -> Network:
        phase = self.phase
        if phase.to_network is not None and self.happens(phase.to_share):
            return NETWORKS[phase.to_network]
        return draw_network(self.random)

    def leg(self, channel: str, network: Network | None = None) -> Leg:
        """From one of the accounts to somebody."""
        long_share = self.scenario.shares.long
        return leg(self.random, self.at_us, channel, network or self.network(), long_share)

    def ending(self, ordinary: Endings, network: Network, *, is_sms: bool = True) -> Ending:
        """How a message ends; of SMS the phase may know better."""
        special = self.phase.endings if is_sms and self._concerns(network) else {}
        return endings.draw(self.random, special or ordinary)

    def answer_format(self) -> AnswerFormat:
        return "xml" if self.happens(self.scenario.shares.xml) else "json"

    def version(self) -> Version:
        return "v0.1" if self.happens(self.scenario.shares.old) else "v1"

    def verified(self, account: str) -> str | None:
        return account if self.is_verified else None

    def told(self, story: Story, party: Leg, begin_seconds: float = 0.0) -> tuple[Told, ...]:
        """Each step with its time: later ones later, as Vonage's clock has it."""
        after = begin_seconds
        found: list[Told] = []
        for step in story.steps:
            after += self._wait(step.wait_seconds, party.network)
            at_us = self.at_us + int(after * 1_000_000)
            if story.ending == "skewed" and found:
                at_us = found[0].at_us - 3_000_000
            found.append(
                Told(
                    step.status, step.code, at_us, after,
                    has_backslashes=story.ending == "mended",
                )
            )  # fmt: skip
        return tuple(found)

    def disturbed(self, webhooks: list[Webhook]) -> tuple[Webhook, ...]:
        """As they arrive: some again, some overtaken."""
        shares = self.scenario.shares
        arriving = []
        for webhook in webhooks:
            if self.happens(shares.overtaken):
                webhook = webhook.delayed(self.after_seconds(DELAY_SECONDS))
            arriving.append(webhook)
            if self.happens(shares.repeat):
                arriving.append(webhook.repeated(self.after_seconds(REPEAT_SECONDS)))
        return tuple(sorted(arriving, key=lambda webhook: webhook.after_seconds))

    def plan(
        self,
        send: Mapping[str, object] | None,
        webhooks: list[Webhook],
        messages: list[Message],
        rollups: tuple[Rollup, ...] = (),
    ) -> Plan:
        is_late = send is not None and self.happens(self.scenario.shares.late_record)
        delay = self.after_seconds(RECORD_SECONDS) if is_late else 0.0
        return Plan(send, delay, self.disturbed(webhooks), tuple(messages), rollups)

    def _wait(self, seconds: float | None, network: Network) -> float:
        if seconds is not None and seconds > endings.HOUR:
            # Nobody's mood, but a rule: not drawn.
            return min(seconds, self.scenario.longest_seconds) / self.divisor
        if seconds is not None:
            return self.after_seconds(seconds)
        median = network.latency_seconds
        if self._concerns(network):
            median *= self.phase.latency
        return self.after_seconds(median, network.spread)

    def _concerns(self, network: Network) -> bool:
        return self.phase.network in (None, network.code)
