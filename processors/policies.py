"""Settings and accounts file to the joiner's :class:`Policy`.

The policy must be the same for every joiner of a topic prefix: what follows from a set of facts
depends on it, and a partition goes from one joiner to another. It is read at the start, so change
it everywhere and restart them all. A message that nothing more happens to keeps what followed from
the old policy until `lifecycles` is rebuilt.
"""

from __future__ import annotations

from collections.abc import Mapping

from processors.join.policy import Deadlines, Policy
from sendtrace.runtime.accounts import Terms, read_terms
from sendtrace.runtime.deadlines import Scope, Waits, parse_deadlines
from sendtrace.runtime.settings import Settings

ANY: Scope = (None, None)


def policy_of(settings: Settings) -> Policy:
    """Reads the accounts file. Raises SettingsError with a sentence."""
    return policy(settings, read_terms(settings.accounts_file))


def policy(settings: Settings, terms: Terms) -> Policy:
    rows = deadline_rows(parse_deadlines(settings.deadlines))
    return Policy(
        default_currency=settings.default_currency,
        currencies=terms.currencies,
        parents=terms.parents,
        callback_hosts=frozenset(settings.listed("callback_hosts")),
        deadlines=rows.pop(ANY),
        deadlines_of=rows,
        retry_step_seconds=settings.retry_step_seconds,
        grace_seconds=settings.grace_seconds,
        test_accounts=frozenset(settings.listed("test_accounts")),
        test_client_ref_prefixes=settings.listed("test_client_ref_prefixes"),
        time_scale=settings.time_scale,
    )


def deadline_rows(given: Mapping[Scope, Waits]) -> dict[Scope, Deadlines]:
    """Whole rows, as ``Policy.deadlines_for`` takes them: what a row does not say it has from the
    less exact ones. There is one for every API with every channel that is named."""
    apis = {None, *(api for api, _ in given)}
    channels = {None, *(channel for _, channel in given)}
    rows = {}
    for api in apis:
        for channel in channels:
            waits: Waits = {}
            for scope in (ANY, (api, None), (None, channel), (api, channel)):
                waits |= given.get(scope, {})
            named = {f"{kind}_seconds": seconds for kind, seconds in waits.items()}
            rows[api, channel] = Deadlines(**named)  # type: ignore[arg-type]  # never None: margin
    return rows
