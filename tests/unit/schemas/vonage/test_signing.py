"""Signatures: the SDKs' own vectors, tokens made by PyJWT, and that nothing else passes."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from schemas.vonage.signing import (
    TREATMENTS,
    JwtVerdict,
    Method,
    Treatment,
    Verdict,
    bearer,
    json_parameters,
    payload_hash,
    sign,
    sign_jwt,
    verify_jwt,
    verify_sig,
)

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parents[3] / "data" / "signature_vectors.jsonl")
    .read_text()
    .splitlines()
]
SIG_VECTORS = [row for row in VECTORS if row["algorithm"] != "jwt-hs256"]
JWT_VECTORS = [row for row in VECTORS if row["algorithm"] == "jwt-hs256"]
SECRET, OLD_SECRET = b"0123456789abcdefghijklmnopqrstuvwxyz", b"the secret before it"
RECEIPT = {"messageId": "0A0000001234567B", "message-timestamp": "2020-01-01 12:00:00", "err": ""}

# Made by PyJWT 2.15.1 over BODY with SECRET; the hash is what sha256sum prints.
BODY = (
    b'{"message_uuid":"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab","status":"delivered",'
    b'"text":"\xc3\xa9"}'
)
BODY_HASH = "55064d8b7167f773b7d2c0890e1b115adeb19bed91827ace8835545b3bce176e"
IAT = 1_700_000_000
CLAIMS = {
    "iat": IAT,
    "jti": "c5ba8f24-1a14-4c10-bfdf-3fbe8ce511b5",
    "iss": "Vonage",
    "payload_hash": BODY_HASH,
    "api_key": "abcd1234",
}
PYJWT_PAYLOAD = (
    "eyJpYXQiOjE3MDAwMDAwMDAsImp0aSI6ImM1YmE4ZjI0LTFhMTQtNGMxMC1iZmRmLTNmYmU4Y2U1MTFiNSIsImlzcyI6"
    "IlZvbmFnZSIsInBheWxvYWRfaGFzaCI6IjU1MDY0ZDhiNzE2N2Y3NzNiN2QyYzA4OTBlMWIxMTVhZGViMTliZWQ5MTgy"
    "N2FjZTg4MzU1NDViM2JjZTE3NmUiLCJhcGlfa2V5IjoiYWJjZDEyMzQifQ"
)
PYJWT_HS256 = (
    f"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{PYJWT_PAYLOAD}"
    ".KxcYfVGWYHIOF1qR9mWHln3-dotRndSuLAl998FGWeA"
)
PYJWT_HS384 = (
    f"eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.{PYJWT_PAYLOAD}"
    ".aR3uG1s4yv96yZVduf_1yuURaUU9x3gsE887FE3ef9_Ki1ezqCk-M2oI6_Qewl6W"
)
PYJWT_NONE = f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{PYJWT_PAYLOAD}."
SECRETS = {"abcd1234": (SECRET,)}
HS256 = {"alg": "HS256", "typ": "JWT"}
VALID = JwtVerdict(Verdict.VALID, "abcd1234")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="&="), max_size=8)
names = names.filter(lambda name: name != "sig")
parameter_sets = st.dictionaries(names, texts, max_size=5)
methods = st.sampled_from(Method)
# An HMAC pads its key with zeros and hashes a long one: such keys are equal to it, and to us.
secret_bytes = st.binary(min_size=1, max_size=60).filter(lambda key: key[-1] != 0)


def verdict(token: str, body: bytes = BODY, now_s: float = IAT, **changes: Any) -> Verdict:
    return verify_jwt(token, body, SECRETS, now_s, **changes).verdict


def handmade(header: object = HS256, claims: object = CLAIMS) -> str:
    """Any header and claims, bytes as they are, under the HMAC that HS256 would have there."""
    parts = [
        part if type(part) is bytes else json.dumps(part).encode() for part in (header, claims)
    ]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(SECRET, signed, "sha256"))
    return (signed + b"." + signature.rstrip(b"=")).decode()


def claimed(**changes: object) -> str:
    return sign_jwt({**CLAIMS, **changes}, BODY, SECRET)


# sig


def test_there_are_thirty_vectors() -> None:
    assert (len(SIG_VECTORS), len(JWT_VECTORS)) == (28, 2)
    assert sum(row["expected_valid"] for row in VECTORS) == 28


@pytest.mark.parametrize("row", SIG_VECTORS)
def test_sig_agrees_with_the_sdks(row: dict[str, Any]) -> None:
    parameters = json_parameters({**row["params"], "sig": row["sig"]})
    assert parameters is not None
    method, secret = Method(row["algorithm"]), row["secret"].encode()
    assert (sign(parameters, method, secret).lower() == row["sig"].lower()) is row["expected_valid"]
    # One vector has an empty secret: the arithmetic is right, yet it proves nothing.
    assert verify_sig(parameters, method, [secret]) is (row["expected_valid"] and secret != b"")


@pytest.mark.parametrize("method", Method)
def test_sig_in_any_case_of_letters_and_any_order(method: Method) -> None:
    sig = sign(RECEIPT, method, SECRET)
    assert sig == (sig.lower() if method is Method.MD5HASH else sig.upper())
    for written in (sig, sig.lower(), sig.upper()):
        pairs = [("sig", written), *reversed(RECEIPT.items())]
        assert verify_sig(pairs, method, [SECRET])
        assert verify_sig(dict(pairs), method, [SECRET])


def test_sig_sorts_names_by_their_bytes() -> None:
    # md5sum of the text written out: "-" before "I", upper case before lower, é after all.
    parameters = {"messageId": "1", "message-timestamp": "2", "é": "3", "Z": "4", "a": "5"}
    assert sign(parameters, Method.MD5HASH, b"s") == "1aeea4dd48c6e310b4234c07b2b80a1e"


def test_sig_under_either_of_two_live_secrets() -> None:
    signed = {**RECEIPT, "sig": sign(RECEIPT, Method.SHA256, OLD_SECRET)}
    assert verify_sig(signed, Method.SHA256, [SECRET, OLD_SECRET])
    assert verify_sig(signed, Method.SHA256, [OLD_SECRET, SECRET])
    assert not verify_sig(signed, Method.SHA256, [SECRET])
    assert not verify_sig(signed, Method.SHA256, [])


def test_sig_leaves_out_what_our_own_url_added() -> None:
    signed = {**RECEIPT, "sig": sign(RECEIPT, Method.SHA1, SECRET)}
    arrived = {**signed, "tenant": "a&b", "v=": "2"}
    assert verify_sig(arrived, Method.SHA1, [SECRET], leave_out={"tenant", "v="})
    assert not verify_sig(arrived, Method.SHA1, [SECRET], leave_out={"v="})
    assert not verify_sig(arrived, Method.SHA1, [SECRET])
    assert not verify_sig(signed, Method.SHA1, [SECRET], leave_out={"messageId"})
    assert sign(arrived, Method.SHA1, SECRET, leave_out={"tenant", "v="}) == signed["sig"]


def test_sig_refuses_a_name_that_comes_twice_unless_left_out() -> None:
    pairs = [*RECEIPT.items(), ("sig", sign(RECEIPT, Method.SHA1, SECRET))]
    assert verify_sig(pairs, Method.SHA1, [SECRET])
    for twice in (("err", ""), ("err", "99"), pairs[-1], ("sig", "")):
        assert not verify_sig([*pairs, twice], Method.SHA1, [SECRET])
        assert not verify_sig([twice, *pairs], Method.SHA1, [SECRET])
    ours = [("x", "1"), ("x", "2")]
    assert verify_sig([*ours, *pairs], Method.SHA1, [SECRET], leave_out=("x",))
    with pytest.raises(ValueError, match="cannot be signed"):
        sign(ours, Method.SHA1, SECRET)


@pytest.mark.parametrize("name", ["a=1&b", "a=1", "&a"])
def test_sig_refuses_a_name_that_could_be_several(name: str) -> None:
    several = {"a": "1", "b": "2"}
    sig = sign(several, Method.MD5HASH, SECRET)
    assert verify_sig({**several, "sig": sig}, Method.MD5HASH, [SECRET])
    assert not verify_sig({name: "2", "sig": sig}, Method.MD5HASH, [SECRET])
    with pytest.raises(ValueError, match="cannot be signed"):
        sign({name: "2"}, Method.MD5HASH, SECRET)


def test_sig_that_is_missing_or_odd_is_just_not_right() -> None:
    assert not verify_sig(RECEIPT, Method.MD5HASH, [SECRET])
    for odd in ("", "é", "\ud800", "0" * 32):
        assert not verify_sig({**RECEIPT, "sig": odd}, Method.MD5HASH, [SECRET])
    assert not verify_sig({"text": "\ud800", "sig": "0"}, Method.MD5HASH, [SECRET])


def test_sig_over_bytes_that_are_no_text() -> None:
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    sig = sign({"text": latin}, Method.SHA512, SECRET)
    assert sig.lower() == hmac.digest(SECRET, b"&text=caf\xe9", "sha512").hex()
    assert verify_sig({"text": latin, "sig": sig}, Method.SHA512, [SECRET])
    for changed in ("caf\ufffd", "caf?", "caf", "café"):
        assert not verify_sig({"text": changed, "sig": sig}, Method.SHA512, [SECRET])


def test_parameters_of_a_json_body() -> None:
    fields = {"text": "", "timestamp": 1_385_047_698, "client-ref": None}
    assert json_parameters(fields) == {"text": "", "timestamp": "1385047698"}
    for odd in (True, 1.5, ["a"], {"a": "b"}, 10**5000):
        assert json_parameters({"text": "", "odd": odd}) is None


def meant(parameters: Mapping[str, str]) -> dict[str, str]:
    """What a sig can tell apart: in values &, = and _ are one."""
    return {k: v.replace("&", "_").replace("=", "_") for k, v in parameters.items()}


@given(parameter_sets, parameter_sets, methods, secret_bytes)
def test_sig_holds_for_no_other_parameters(
    signed: dict[str, str], others: dict[str, str], method: Method, secret: bytes
) -> None:
    sig = sign(signed, method, secret)
    assert verify_sig({**signed, "sig": sig}, method, [secret])
    assert verify_sig({**others, "sig": sig}, method, [secret]) is (meant(signed) == meant(others))


@given(parameter_sets.filter(bool), texts, names, methods, st.data())
def test_sig_holds_for_no_single_change(
    signed: dict[str, str], text: str, name: str, method: Method, data: st.DataObject
) -> None:
    sig = sign(signed, method, SECRET)
    chosen = data.draw(st.sampled_from(sorted(signed)))
    without = {k: v for k, v in signed.items() if k != chosen}
    for changed in (
        without,
        {**signed, chosen: text},
        {**signed, chosen: signed[chosen] + (text or " ")},
        {**without, name: signed[chosen]},
        {**signed, name: text},
    ):
        if meant(changed) != meant(signed):
            changed["sig"] = sig
            assert not verify_sig(changed, method, [SECRET])


@given(parameter_sets, methods, methods, secret_bytes, secret_bytes)
@example({"a": "b"}, Method.MD5, Method.MD5HASH, b"s", b"s")
def test_sig_holds_for_no_other_secret_or_method(
    signed: dict[str, str], method: Method, other: Method, secret: bytes, wrong: bytes
) -> None:
    arrived = {**signed, "sig": sign(signed, method, secret)}
    assert verify_sig(arrived, other, [secret]) is (other == method)
    if wrong != secret:
        assert not verify_sig(arrived, method, [wrong])


# JWT


@pytest.mark.parametrize("row", JWT_VECTORS)
def test_the_sdks_token_is_told_by_its_secret(row: dict[str, Any]) -> None:
    secrets = {"a1b2c3d": (row["secret"].encode(),)}
    # The body of this token is not public: with the right secret, only the body is wrong.
    expected = Verdict.BODY_MISMATCH if row["expected_valid"] else Verdict.WRONG_SIGNATURE
    found = verify_jwt(row["params"]["token"], b"", secrets, 1_587_494_962)
    assert found == JwtVerdict(expected, "a1b2c3d")


def test_a_token_of_pyjwt() -> None:
    assert payload_hash(BODY) == BODY_HASH
    assert verify_jwt(PYJWT_HS256, BODY, SECRETS, IAT) == VALID
    assert sign_jwt(CLAIMS, BODY, SECRET) == PYJWT_HS256
    without_hash = {name: value for name, value in CLAIMS.items() if name != "payload_hash"}
    assert verify_jwt(sign_jwt(without_hash, BODY, SECRET), BODY, SECRETS, IAT) == VALID


def test_the_hash_is_of_the_raw_bytes() -> None:
    same_json = json.dumps(json.loads(BODY)).encode()
    assert verdict(PYJWT_HS256, same_json) is Verdict.BODY_MISMATCH
    assert verdict(PYJWT_HS256, BODY + b"\n") is Verdict.BODY_MISMATCH
    assert verdict(claimed(payload_hash=BODY_HASH.upper())) is Verdict.VALID
    assert verdict(sign_jwt({**CLAIMS, "payload_hash": payload_hash(b"")}, b"", SECRET), b"") is (
        Verdict.VALID
    )


@pytest.mark.parametrize("token", [PYJWT_HS384, PYJWT_NONE, handmade({"alg": "RS256"})])
def test_another_algorithm(token: str) -> None:
    assert verify_jwt(token, BODY, SECRETS, IAT) == JwtVerdict(Verdict.OTHER_ALGORITHM)


@pytest.mark.parametrize("alg", ["none", "None", "hs256", "HS512", "RS256", "ES256", ""])
def test_a_header_is_believed_even_where_the_hmac_is_right(alg: str) -> None:
    assert verdict(handmade({"alg": alg})) is Verdict.OTHER_ALGORITHM


def test_a_critical_extension_is_not_understood() -> None:
    assert verdict(handmade({**HS256, "crit": ["b64"], "b64": False})) is Verdict.OTHER_ALGORITHM
    assert verdict(handmade({**HS256, "kid": "1"})) is Verdict.VALID


def test_either_of_two_live_secrets() -> None:
    for secrets in ((SECRET, OLD_SECRET), (OLD_SECRET, SECRET), [b"", SECRET]):
        assert verify_jwt(PYJWT_HS256, BODY, {"abcd1234": secrets}, IAT) == VALID
    found = verify_jwt(PYJWT_HS256, BODY, {"abcd1234": (OLD_SECRET, b"x")}, IAT)
    assert found == JwtVerdict(Verdict.WRONG_SIGNATURE, "abcd1234")


def test_the_secret_of_another_account_does_not_do() -> None:
    secrets = {"abcd1234": (OLD_SECRET,), "other": (SECRET,)}
    assert verify_jwt(PYJWT_HS256, BODY, secrets, IAT).verdict is Verdict.WRONG_SIGNATURE


def test_accounts_without_secret() -> None:
    # A word of the sender is no account: it may become a label.
    assert verify_jwt(PYJWT_HS256, BODY, {}, IAT) == JwtVerdict(Verdict.UNKNOWN_ACCOUNT)
    for none in ([], [b""]):
        found = verify_jwt(PYJWT_HS256, BODY, {"abcd1234": none}, IAT)
        assert found == JwtVerdict(Verdict.NO_SECRET, "abcd1234")
    signed_with_nothing = sign_jwt(CLAIMS, BODY, b"")
    assert verify_jwt(signed_with_nothing, BODY, {"abcd1234": (b"",)}, IAT).verdict is (
        Verdict.NO_SECRET
    )


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (0, Verdict.VALID),
        (25 * 3600, Verdict.VALID),
        (25 * 3600 + 1, Verdict.STALE),
        (-300, Verdict.VALID),
        (-301, Verdict.FUTURE),
    ],
)
def test_age(age_s: float, expected: Verdict) -> None:
    found = verify_jwt(PYJWT_HS256, BODY, SECRETS, IAT + age_s)
    assert found == JwtVerdict(expected, "abcd1234")


def test_age_with_other_bounds() -> None:
    assert verdict(PYJWT_HS256, now_s=IAT + 91, stale_after_s=90) is Verdict.STALE
    assert verdict(PYJWT_HS256, now_s=IAT - 2, ahead_s=1) is Verdict.FUTURE


@pytest.mark.parametrize(
    ("iat", "expected"),
    [
        (None, Verdict.UNDATED),
        (str(IAT), Verdict.UNDATED),
        (True, Verdict.UNDATED),
        ([IAT], Verdict.UNDATED),
        ({}, Verdict.UNDATED),
        (-1, Verdict.STALE),
        (10**30, Verdict.FUTURE),
        (1e300, Verdict.FUTURE),
        (IAT + 0.5, Verdict.VALID),
    ],
)
def test_odd_times(iat: object, expected: Verdict) -> None:
    assert verdict(handmade(claims={**CLAIMS, "iat": iat})) is expected


def test_age_counts_only_of_what_is_authentic() -> None:
    late = IAT + 10 * 24 * 3600
    wrong = PYJWT_HS256[:-5] + "AAAAA"
    assert verdict(wrong, now_s=late) is Verdict.WRONG_SIGNATURE
    assert verdict(PYJWT_HS256, b"other", now_s=late) is Verdict.BODY_MISMATCH


@pytest.mark.parametrize(
    "token",
    [
        " ",
        "a",
        "a.b",
        "a.b.c",
        "..",
        "a.b.c.d.e",
        "Bearer " + PYJWT_HS256,
        PYJWT_HS256 + "=",
        PYJWT_HS256 + "A",
        PYJWT_HS256[:-1],
        PYJWT_HS256.rpartition(".")[0],
        PYJWT_HS256.rpartition(".")[0] + ".",
        PYJWT_HS256.replace("-", "+"),
        PYJWT_HS256[:50] + "!" + PYJWT_HS256[51:],
        PYJWT_HS256[:50] + "\ud800" + PYJWT_HS256[51:],
        PYJWT_HS256[:50] + "é" + PYJWT_HS256[51:],
        PYJWT_HS256 + "\n",
        handmade(b"not json"),
        handmade(b"\xff"),
        handmade(b"[" * 6000),
        handmade([]),
        handmade({}),
        handmade({"alg": 1}),
        handmade({"alg": None}),
        handmade(HS256, b"not json"),
        handmade(HS256, b'{"api_key":' + b"[" * 6000),
        handmade(HS256, ["abcd1234"]),
        handmade(HS256, {}),
        handmade(HS256, {"api_key": 1}),
        handmade(HS256, {"api_key": ["abcd1234"]}),
        handmade(HS256, {"api_key": None}),
    ],
)
def test_what_is_not_a_jwt(token: str) -> None:
    assert verify_jwt(token, BODY, SECRETS, IAT) == JwtVerdict(Verdict.NOT_A_JWT)


@pytest.mark.parametrize("odd", [None, 1, [], {"a": 1}, "", "é", BODY_HASH[:-1], BODY_HASH + "0"])
def test_a_signed_token_whose_hash_is_none_fits_no_body(odd: object) -> None:
    assert verdict(claimed(payload_hash=odd)) is Verdict.BODY_MISMATCH


def test_no_token() -> None:
    assert verify_jwt("", BODY, SECRETS, IAT) == JwtVerdict(Verdict.MISSING)


def test_bearer() -> None:
    assert bearer("Bearer a.b.c") == bearer(" bearer   a.b.c ") == bearer("BEARER a.b.c") == "a.b.c"
    assert bearer(None) == bearer("") == bearer("Bearer") == bearer("Basic YTpi") == ""
    assert bearer("a.b.c") == ""


def test_what_the_edge_does_about_each() -> None:
    assert set(TREATMENTS) == set(Verdict)
    by_treatment = {
        treatment: {verdict.name for verdict in Verdict if TREATMENTS[verdict] is treatment}
        for treatment in Treatment
    }
    assert by_treatment == {
        Treatment.ACCEPT: {"VALID"},
        Treatment.LATER: {
            "MISSING", "UNKNOWN_ACCOUNT", "NO_SECRET", "WRONG_SIGNATURE", "FUTURE",
        },
        Treatment.NEVER: {"NOT_A_JWT", "OTHER_ALGORITHM", "BODY_MISMATCH"},
        Treatment.QUARANTINE: {"STALE", "UNDATED"},
    }  # fmt: skip


@given(st.binary(), st.binary(), secret_bytes, secret_bytes)
def test_a_token_holds_for_its_body_and_secret_alone(
    body: bytes, other: bytes, secret: bytes, wrong: bytes
) -> None:
    token = sign_jwt({"iat": IAT, "api_key": "k"}, body, secret)
    assert verify_jwt(token, body, {"k": [secret]}, IAT).verdict is Verdict.VALID
    found = verify_jwt(token, other, {"k": [secret]}, IAT).verdict
    assert found is (Verdict.VALID if other == body else Verdict.BODY_MISMATCH)
    if wrong != secret:
        assert verify_jwt(token, body, {"k": [wrong]}, IAT).verdict is Verdict.WRONG_SIGNATURE


@given(st.integers(0, len(PYJWT_HS256) - 1), st.characters())
def test_no_character_of_a_token_may_change(position: int, character: str) -> None:
    mutated = PYJWT_HS256[:position] + character + PYJWT_HS256[position + 1 :]
    assume(mutated != PYJWT_HS256)
    assert TREATMENTS[verdict(mutated)] in (Treatment.LATER, Treatment.NEVER)


def test_no_other_spelling_of_the_signature_is_valid() -> None:
    # 43 characters hold 258 bits, so the last has two to spare: decoded, these four are equal.
    assert PYJWT_HS256.endswith("A")
    for last in "BCD":
        assert verdict(PYJWT_HS256[:-1] + last) is Verdict.WRONG_SIGNATURE


@given(st.integers(0, len(PYJWT_HS256) - 1))
def test_no_truncated_token_is_valid(length: int) -> None:
    assert verdict(PYJWT_HS256[:length]) in (Verdict.NOT_A_JWT, Verdict.MISSING)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
json_values = scalars | st.lists(scalars, max_size=2) | st.just({"api_key": "abcd1234"})
signed_claims = st.fixed_dictionaries(
    {},
    optional={
        "api_key": json_values | st.just("abcd1234"),
        "payload_hash": json_values | st.just(BODY_HASH),
        "iat": json_values | st.integers(IAT - 60, IAT + 60),
        "iss": json_values,
    },
)


@given(signed_claims)
def test_claims_of_any_type_get_a_verdict(claims: dict[str, object]) -> None:
    found = verdict(handmade(claims=claims))
    if found is Verdict.VALID:
        assert (claims["api_key"], claims["payload_hash"]) == ("abcd1234", BODY_HASH)
        assert type(claims["iat"]) in (int, float)


@given(st.binary(max_size=60))
def test_signed_bytes_of_any_kind_get_a_verdict(claims: bytes) -> None:
    assert verdict(handmade(claims=claims)) is not Verdict.VALID


@given(st.text() | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True), st.binary())
def test_any_text_gets_a_verdict(token: str, body: bytes) -> None:
    assert verdict(token, body) in (Verdict.NOT_A_JWT, Verdict.MISSING, Verdict.OTHER_ALGORITHM)
