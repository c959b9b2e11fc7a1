"""Whether a webhook is Vonage's: what it brings, held against what its account requires.

Pure: a verdict is returned as data. The order is in :func:`judge`; which policy counts for what
cannot be told apart is in ``sendtrace/runtime/accounts.py``; what each verdict is answered with is
in ``ingest/errors.py``. The whole of it, in words, is in docs/edge.md.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import unquote_plus

from msgspec import Struct
from msgspec.structs import replace

from schemas import topics
from schemas.codec import TYPE_SMS_INBOUND
from schemas.events import Verified
from schemas.vonage import sms
from schemas.vonage.detect import Detected, Quarantine
from schemas.vonage.fields import from_json
from schemas.vonage.reasons import NotUnderstoodError
from schemas.vonage.signing import (
    AHEAD_S,
    STALE_AFTER_S,
    JwtVerdict,
    Verdict,
    bearer,
    json_parameters,
    verify_jwt,
    verify_sig,
)
from sendtrace.runtime.accounts import Account, Accounts, Policy

# Vonage repeats a receipt for 72 h (docs/vonage.md 7).
SMS_STALE_AFTER_S = 73 * 3600.0

Kind = Literal["messages", "sms", "receipt", "unknown"]


class StaleAfter(Struct, frozen=True):
    """How old a signature may be, by what dates it."""

    jwt_s: float = STALE_AFTER_S
    sms_s: float = SMS_STALE_AFTER_S


UNSCALED = StaleAfter()


def stale_after(time_scale: float) -> StaleAfter:
    """Divided like every duration: a signature's age is our clock minus Vonage's, neither of which
    is scaled, and under a time scale the simulator repeats for 72 h divided too. ``AHEAD_S`` is no
    duration of Vonage's but how far two real clocks may differ, and stays."""
    return StaleAfter(STALE_AFTER_S / time_scale, SMS_STALE_AFTER_S / time_scale)


class Judged(Struct, frozen=True):
    """``account`` is proven where ``verified`` is not none; else it is a configured one that the
    webhook claims, or None. ``differs``: the body names another account than the proven one."""

    verdict: Verdict
    account: str | None = None
    verified: Verified = "none"
    differs: bool = False


def kind_of(found: Detected | Quarantine) -> Kind:
    """Which API's policy a webhook falls under, as far as it can be told."""
    if isinstance(found, Quarantine):
        return "unknown"
    if found.topic == topics.RECEIPTS:
        return "receipt"
    return "sms" if found.ce_type == TYPE_SMS_INBOUND else "messages"


def judge(
    kind: Kind,
    value: bytes,
    content_type: str | None,
    authorization: str | None,
    holder: Account | None,
    accounts: Accounts,
    now_s: float,
    stale: StaleAfter = UNSCALED,
) -> Judged:
    """Judge one webhook. ``value`` is what would be stored; ``holder`` is whose token its path has.

    A token of the Messages API is proof for any body that it was signed for. Other bodies go by
    their ``sig`` and their path. Where both are wrong, it is the first that is told.
    """
    token = bearer(authorization)
    if not token and kind != "messages":
        return _judge_sms(kind, value, content_type, holder, accounts, now_s, stale.sms_s)
    told = verify_jwt(token, value, accounts.secrets, now_s, stale_after_s=stale.jwt_s)
    if told.verdict is Verdict.VALID:
        return Judged(Verdict.VALID, told.account, "jwt")
    if kind in ("sms", "receipt"):
        by_sig = _judge_sms(kind, value, content_type, holder, accounts, now_s, stale.sms_s)
        return by_sig if by_sig.verdict is not Verdict.MISSING else _refused(told)
    return _judge_messages(kind, told, holder, accounts)


def _refused(told: JwtVerdict) -> Judged:
    is_proven = told.verdict in (Verdict.STALE, Verdict.UNDATED)
    return Judged(told.verdict, told.account, "jwt" if is_proven else "none")


def _judge_messages(
    kind: Kind, told: JwtVerdict, holder: Account | None, accounts: Accounts
) -> Judged:
    """A webhook whose JWT is not plainly valid. ``optional`` lets pass what has none, and what
    nobody here has a secret for; a JWT that is wrong is wrong under any policy."""
    if told.verdict not in (Verdict.MISSING, Verdict.NO_SECRET):
        return _refused(told)
    named = holder or (accounts.by_name.get(told.account) if told.account else None)
    if _policy(kind, named, accounts) is Policy.OPTIONAL:
        return _by_path(holder)
    return Judged(told.verdict, named.name if named else None)


def _judge_sms(
    kind: Kind,
    value: bytes,
    content_type: str | None,
    holder: Account | None,
    accounts: Accounts,
    now_s: float,
    stale_after_s: float,
) -> Judged:
    parameters = _parameters(value, content_type)
    fields = dict(parameters)
    claimed = fields.get("api-key") or None
    claimant = accounts.by_name.get(claimed) if claimed else None
    differs = holder is not None and claimed not in (None, holder.name)
    named = holder or claimant
    policy = _policy(kind, named, accounts)
    if holder is not None and _token_is_enough(kind, policy, holder):
        return Judged(Verdict.VALID, holder.name, "token", differs)
    if claimed is not None and named is None:
        return Judged(Verdict.UNKNOWN_ACCOUNT)
    if not fields.get("sig"):
        if policy is Policy.OPTIONAL:
            return _by_path(holder, differs)
        return Judged(Verdict.MISSING, named.name if named else None)
    candidates = [claimant] if claimant else [holder] if holder else list(accounts.by_name.values())
    told = _judge_sig(parameters, candidates, accounts.own_parameters, now_s, stale_after_s)
    if told.verdict is Verdict.NO_SECRET and policy is Policy.OPTIONAL:
        return _by_path(holder, differs)
    return replace(told, differs=True) if claimed not in (None, told.account) else told


def _judge_sig(
    parameters: list[tuple[str, str]],
    candidates: list[Account],
    own_parameters: frozenset[str],
    now_s: float,
    stale_after_s: float,
) -> Judged:
    """Old webhooks do not say whose they are: then it is whose secret fits."""
    account = candidates[0].name if len(candidates) == 1 else None
    if not any(candidate.secrets for candidate in candidates):
        return Judged(Verdict.NO_SECRET, account)
    for candidate in candidates:
        if verify_sig(parameters, candidate.method, candidate.secrets, own_parameters):
            age = _age(dict(parameters).get("timestamp", ""), now_s, stale_after_s)
            return Judged(age, candidate.name, "none" if age is Verdict.FUTURE else "sig")
    return Judged(Verdict.WRONG_SIGNATURE, account)


def _policy(kind: Kind, account: Account | None, accounts: Accounts) -> Policy:
    policies = account.policies if account is not None else accounts.strictest
    policy: Policy = getattr(policies, kind)
    return policy


def _token_is_enough(kind: Kind, policy: Policy, holder: Account) -> bool:
    """What is not understood goes nowhere but to quarantine. Whose bytes they are is known by the
    token, and to refuse them would be to lose them (docs/edge.md)."""
    return policy is Policy.TOKEN or (kind == "unknown" and holder.has_token_policy)


def _by_path(holder: Account | None, differs: bool = False) -> Judged:
    """Nothing is required; a token proves whose it is all the same."""
    if holder is None:
        return Judged(Verdict.VALID)
    return Judged(Verdict.VALID, holder.name, "token", differs)


def _age(timestamp: str, now_s: float, stale_after_s: float) -> Verdict:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return Verdict.UNDATED
    signed_s = int(timestamp)
    if signed_s < now_s - stale_after_s:
        return Verdict.STALE
    return Verdict.FUTURE if signed_s > now_s + AHEAD_S else Verdict.VALID


def _parameters(value: bytes, content_type: str | None) -> list[tuple[str, str]]:
    """Decoded, blanks kept; none where there is no agreed text to sign."""
    if sms.is_form(content_type, value):
        return form_pairs(value)
    try:
        fields = from_json(sms.decode_flat, value)
    except NotUnderstoodError:
        return []
    return list((json_parameters(fields) or {}).items())


def form_pairs(raw: bytes) -> list[tuple[str, str]]:
    """Every parameter, doubles included. Bytes that are no UTF-8 are kept as surrogates: they are
    signed as they are."""
    if raw.count(b"&") >= sms.FIELD_LIMIT:
        return []
    pairs = []
    for pair in raw.decode("utf-8", "surrogateescape").split("&"):
        name, _, value = pair.partition("=")
        if pair:
            pairs.append((_decoded(name), _decoded(value)))
    return pairs


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    return unquote_plus(text, errors="surrogateescape")
