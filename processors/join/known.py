"""Whose message it is and what it is: fields that the send or the first fact that knows them tells.

1. The send counts before the facts: it is what we asked for. The api is the send's, since receipts
   of the SMS and the Alerts API look alike.
2. Accounts come from the send or from a verified fact, never from what a body claims.
3. Two networks: the answer's is estimated, the event's is final.
4. Of a failover only the primary has a send: it is item 1.
5. Test traffic: configured accounts, prefixes of client references, the sandbox's host.

Source: docs/rules.md 2, 6 and 7.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from processors.join.policy import Policy
from schemas.events import Fact, Send


class Known(Struct, frozen=True):
    api: str | None = None
    channel: str | None = None
    account: str | None = None
    traffic: Literal["live", "test"] = "live"
    sender: str | None = None
    recipient: str | None = None
    client_ref: str | None = None
    network_final: str | None = None
    workflow_id: str | None = None
    workflow_item: int | None = None
    workflow_items: int | None = None
    segments: int | None = None


def known_of(send: Send | None, facts: tuple[Fact, ...], policy: Policy) -> Known:
    """Total. ``facts`` are those that count, in the order of the set."""
    network = item = items = segments = None
    if send is None:
        api = channel = account = sender = recipient = client_ref = workflow = None
    else:
        api, channel, account = send.api, send.channel, send.account
        sender, recipient, client_ref = send.sender, send.recipient, send.client_ref
        workflow = send.workflow_id
        if workflow is not None:
            item = 1
            items = None if send.failover_items is None else send.failover_items + 1
    for fact in facts:
        api = api or fact.api
        channel = channel or fact.channel
        account = account or fact.account or None
        sender = sender or fact.sender
        recipient = recipient or fact.recipient
        client_ref = client_ref or fact.client_ref
        network = network or fact.network
        segments = segments or fact.segments
        if fact.workflow_id is not None:
            workflow = workflow or fact.workflow_id
            item = item or fact.workflow_item
            items = items or fact.workflow_items
    traffic = _traffic(send, account, client_ref, policy)
    return Known(
        api, channel, account, traffic, sender, recipient, client_ref, network, workflow, item,
        items, segments,
    )  # fmt: skip


def _traffic(
    send: Send | None, account: str | None, client_ref: str | None, policy: Policy
) -> Literal["live", "test"]:
    if send is not None and send.host is not None and send.host in policy.sandbox_hosts:
        return "test"
    if account is not None and account in policy.test_accounts:
        return "test"
    prefixes = policy.test_client_ref_prefixes
    if prefixes and client_ref is not None and client_ref.startswith(prefixes):
        return "test"
    return "live"
