"""Verification: every policy with every proof, and what is answered when it does not fit."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import REFUSALS
from ingest.verify import Judged, form_pairs, judge, kind_of
from schemas.vonage import sms
from schemas.vonage.detect import detect
from schemas.vonage.signing import TREATMENTS, Method, Treatment, Verdict
from sendtrace.runtime.accounts import Account, Accounts, parse

from fakes.signed import (
    INBOUND,
    NOW_S,
    OTHER,
    RECEIPT,
    SECRET,
    STATUS,
    TOKEN,
    jwt,
    signed_form,
    signed_json,
)

FORM, JSON = sms.FORM, "application/json"
GARBAGE = b'{"what":"is this"}'
FILES = {"s": SECRET.decode(), "n": "the next secret", "o": OTHER.decode(), "t": TOKEN}


def accounts(
    messages: str = "required", sms: str = "required", alerts: str = "required", more: str = ""
) -> Accounts:
    text = (
        f'own_parameters=["customer"]\n[accounts.abcd1234]\nmessages="{messages}"\nsms="{sms}"\n'
        f'alerts="{alerts}"\nsig_method="sha256"\nsignature_secrets=["s","n"]\ntokens=["t"]\n{more}'
    )
    return parse(text, FILES.__getitem__)


STRICT = accounts()
OPEN = accounts("optional", "optional", "optional")
BY_TOKEN = accounts(sms="token", alerts="token")
BARE = parse(
    '[accounts.abcd1234]\nmessages="optional"\nsms="optional"\nalerts="optional"', FILES.__getitem__
)
TWO = accounts(more='[accounts.other123]\nsig_method="md5hash"\nsignature_secrets=["o"]\n')


def judged(
    value: bytes,
    content_type: str = JSON,
    *,
    by: Accounts = STRICT,
    authorization: str | None = None,
    token: bool = False,
    now_s: float = NOW_S,
) -> Judged:
    holder: Account | None = by.by_name["abcd1234"] if token else None
    kind = kind_of(detect("POST", "/webhooks/x", b"", content_type, value))
    return judge(kind, value, content_type, authorization, holder, by, now_s)


def verdict(*args: Any, **kwargs: Any) -> Verdict:
    return judged(*args, **kwargs).verdict


# -- the Messages API


def test_a_signed_status() -> None:
    assert judged(STATUS, authorization=jwt(STATUS)) == Judged(Verdict.VALID, "abcd1234", "jwt")
    by_next = jwt(STATUS, b"the next secret")
    assert judged(STATUS, authorization=by_next).verified == "jwt"


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (None, Verdict.MISSING),
        ("", Verdict.MISSING),
        ("Basic eA==", Verdict.MISSING),
        (jwt(STATUS, OTHER), Verdict.WRONG_SIGNATURE),
        (jwt(STATUS, account="stranger"), Verdict.UNKNOWN_ACCOUNT),
        (jwt(STATUS + b" "), Verdict.BODY_MISMATCH),
        (jwt(STATUS, iat=int(NOW_S) - 26 * 3600), Verdict.STALE),
        (jwt(STATUS, iat=None), Verdict.UNDATED),
        (jwt(STATUS, iat=int(NOW_S) + 3600), Verdict.FUTURE),
        ("Bearer nonsense", Verdict.NOT_A_JWT),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", Verdict.OTHER_ALGORITHM),
    ],
)
@pytest.mark.parametrize("by", [STRICT, OPEN])
def test_an_unsigned_or_wrongly_signed_status(
    authorization: str | None, expected: Verdict, by: Accounts
) -> None:
    """What is wrong is wrong under any policy: only what is missing may be optional."""
    is_let_in = by is OPEN and expected is Verdict.MISSING
    found = judged(STATUS, authorization=authorization, by=by)
    assert found.verdict is (Verdict.VALID if is_let_in else expected)
    is_proven = expected in (Verdict.STALE, Verdict.UNDATED)
    assert found.verified == ("jwt" if is_proven else "none")


def test_optional_without_a_secret_takes_what_it_cannot_judge() -> None:
    assert judged(STATUS, authorization=jwt(STATUS), by=BARE) == Judged(Verdict.VALID)
    assert judged(signed_form(RECEIPT), FORM, by=BARE) == Judged(Verdict.VALID)


def test_a_token_is_no_signature() -> None:
    assert verdict(STATUS, token=True, by=BY_TOKEN) is Verdict.MISSING
    assert judged(STATUS, token=True, by=OPEN) == Judged(Verdict.VALID, "abcd1234", "token")


# -- the SMS API and the Alerts API


@pytest.mark.parametrize("fields", [RECEIPT, INBOUND])
def test_a_signed_receipt_and_a_signed_inbound_in_all_forms(fields: dict[str, str]) -> None:
    expected = Judged(Verdict.VALID, "abcd1234", "sig")
    assert judged(signed_form(fields), FORM) == expected
    assert judged(signed_form(fields), FORM + "; charset=UTF-8") == expected
    assert judged(signed_json(fields), JSON) == expected
    assert judged(signed_form(fields, b"the next secret"), FORM) == expected
    number = json.dumps({**json.loads(signed_json(fields)), "timestamp": int(NOW_S)}).encode()
    assert judged(number, JSON) == expected


def test_parameters_of_our_own_url_are_not_signed() -> None:
    assert judged(signed_form(RECEIPT) + b"&customer=7", FORM).verified == "sig"
    assert verdict(signed_form(RECEIPT) + b"&customers=7", FORM) is Verdict.WRONG_SIGNATURE


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (urlencode(RECEIPT).encode(), Verdict.MISSING),
        (urlencode({**RECEIPT, "sig": ""}).encode(), Verdict.MISSING),
        (signed_form(RECEIPT, OTHER), Verdict.WRONG_SIGNATURE),
        (signed_form(RECEIPT, SECRET, Method.MD5), Verdict.WRONG_SIGNATURE),
        (signed_form(RECEIPT).replace(b"delivered", b"failed"), Verdict.WRONG_SIGNATURE),
        (signed_form(RECEIPT) + b"&status=failed", Verdict.WRONG_SIGNATURE),
        (signed_form({**RECEIPT, "api-key": "stranger"}), Verdict.UNKNOWN_ACCOUNT),
        (signed_form({**RECEIPT, "timestamp": str(int(NOW_S) - 74 * 3600)}), Verdict.STALE),
        (signed_form({**RECEIPT, "timestamp": str(int(NOW_S) - 72 * 3600)}), Verdict.VALID),
        (signed_form({**RECEIPT, "timestamp": str(int(NOW_S) + 3600)}), Verdict.FUTURE),
        (signed_form({**RECEIPT, "timestamp": "yesterday"}), Verdict.UNDATED),
    ],
)
@pytest.mark.parametrize("by", [STRICT, OPEN, BY_TOKEN])
def test_a_receipt_that_is_not_plainly_right(value: bytes, expected: Verdict, by: Accounts) -> None:
    if by is OPEN and expected is Verdict.MISSING:
        expected = Verdict.VALID
    assert verdict(value, FORM, by=by) is expected


def test_a_receipt_that_names_no_account_is_whose_secret_fits() -> None:
    fields = {name: value for name, value in RECEIPT.items() if name != "api-key"}
    assert judged(signed_form(fields), FORM, by=TWO).account == "abcd1234"
    by_other = signed_form(fields, OTHER, Method.MD5HASH)
    assert judged(by_other, FORM, by=TWO) == Judged(Verdict.VALID, "other123", "sig")
    # One that names the other account is not signed with this one's secret.
    claims_other = signed_form({**RECEIPT, "api-key": "other123"})
    assert verdict(claims_other, FORM, by=TWO) is Verdict.WRONG_SIGNATURE


def test_the_token_in_the_path_where_a_signature_is_not_required() -> None:
    unsigned = urlencode(RECEIPT).encode()
    expected = Judged(Verdict.VALID, "abcd1234", "token")
    assert judged(unsigned, FORM, by=BY_TOKEN, token=True) == expected
    assert judged(unsigned, FORM, by=OPEN, token=True) == expected
    assert verdict(unsigned, FORM, by=STRICT, token=True) is Verdict.MISSING
    assert verdict(unsigned, FORM, by=BY_TOKEN) is Verdict.MISSING
    # A signature is the better proof.
    assert judged(signed_form(RECEIPT), FORM, by=BY_TOKEN).verified == "sig"


def test_what_cannot_be_told_apart_gets_the_strictest() -> None:
    """A receipt may be one of the Alerts API; an inbound message cannot."""
    sms_by_token = accounts(sms="token", alerts="required")
    alerts_by_token = accounts(sms="required", alerts="token")
    receipt, inbound = urlencode(RECEIPT).encode(), urlencode(INBOUND).encode()
    assert verdict(receipt, FORM, by=sms_by_token, token=True) is Verdict.MISSING
    assert verdict(receipt, FORM, by=alerts_by_token, token=True) is Verdict.MISSING
    assert verdict(inbound, FORM, by=sms_by_token, token=True) is Verdict.VALID
    assert verdict(inbound, FORM, by=alerts_by_token, token=True) is Verdict.MISSING


def test_the_proven_account_counts_and_another_claim_is_told() -> None:
    """docs/rules.md 1: foreign facts are kept and ignored, with a flag and a counter."""
    unsigned = urlencode({**RECEIPT, "api-key": "subaccount"}).encode()
    found = judged(unsigned, FORM, by=BY_TOKEN, token=True)
    assert found == Judged(Verdict.VALID, "abcd1234", "token", differs=True)
    # A subaccount's receipt, signed with the secret of the account whose URL it came to.
    signed = signed_form({**RECEIPT, "api-key": "subaccount"})
    found = judged(signed, FORM, by=STRICT, token=True)
    assert found == Judged(Verdict.VALID, "abcd1234", "sig", differs=True)
    assert not judged(urlencode(RECEIPT).encode(), FORM, by=BY_TOKEN, token=True).differs


def test_what_is_not_understood_must_be_authentic() -> None:
    assert verdict(GARBAGE) is Verdict.MISSING
    assert judged(GARBAGE, authorization=jwt(GARBAGE)).verified == "jwt"
    assert verdict(GARBAGE, authorization=jwt(STATUS)) is Verdict.BODY_MISMATCH
    assert judged(GARBAGE, by=BY_TOKEN, token=True).verified == "token"
    # Where no API of the account goes by token, a token is no proof.
    assert verdict(GARBAGE, by=STRICT, token=True) is Verdict.MISSING
    no_id = {name: value for name, value in RECEIPT.items() if name != "messageId"}
    assert judged(signed_form(no_id), FORM).verified == "sig"
    assert judged(GARBAGE, by=OPEN) == Judged(Verdict.VALID)


def test_a_jwt_over_a_body_of_the_other_api() -> None:
    body = signed_json(RECEIPT, OTHER)
    assert judged(body, authorization=jwt(body)).verified == "jwt"
    assert verdict(body, authorization=jwt(STATUS)) is Verdict.WRONG_SIGNATURE
    unsigned = json.dumps(RECEIPT).encode()
    assert verdict(unsigned, authorization=jwt(STATUS)) is Verdict.BODY_MISMATCH
    # A right signature is enough, whatever stands in a header beside it.
    assert judged(signed_json(RECEIPT), authorization="Bearer x").verified == "sig"


def test_every_verdict_has_an_answer_by_its_treatment() -> None:
    """503 where a mended setting of ours could make it valid, 401 where nothing can."""
    for each, treatment in TREATMENTS.items():
        answer = REFUSALS.get(each)
        if treatment in (Treatment.ACCEPT, Treatment.QUARANTINE):
            assert answer is None
        else:
            assert answer is not None
            assert answer.http_status == (503 if treatment is Treatment.LATER else 401)


_bytes = st.binary(max_size=60) | st.sampled_from(
    [STATUS, GARBAGE, signed_form(RECEIPT), signed_json(INBOUND), b"%zz&&=&sig", b"sig=%ff&a"]
)


@given(
    value=_bytes,
    content_type=st.sampled_from([None, FORM, JSON, "text/plain"]),
    authorization=st.none() | st.text(max_size=40) | st.sampled_from([jwt(STATUS), jwt(GARBAGE)]),
    token=st.booleans(),
    by=st.sampled_from([STRICT, OPEN, BY_TOKEN, TWO, BARE]),
    kind=st.sampled_from(["messages", "sms", "receipt", "unknown"]),
)
def test_anything_gets_a_verdict(
    value: bytes, content_type: str | None, authorization: str | None, token: bool, by: Accounts,
    kind: Any,
) -> None:  # fmt: skip
    holder = by.by_name["abcd1234"] if token else None
    found = judge(kind, value, content_type, authorization, holder, by, NOW_S)
    assert found.account is None or found.account in by.by_name
    if by is STRICT and found.verdict is Verdict.VALID:
        assert found.verified in ("jwt", "sig")


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_pairs_are_what_was_encoded(fields: dict[str, str]) -> None:
    encoded = urlencode(fields).encode("utf-8", "surrogateescape")
    assert dict(form_pairs(encoded)) == fields


def test_pairs_keep_blanks_doubles_and_bytes_that_are_no_text() -> None:
    assert form_pairs(b"a=&a=1&b&&c=%ff+%zz") == [
        ("a", ""), ("a", "1"), ("b", ""), ("c", "\udcff %zz"),
    ]  # fmt: skip
