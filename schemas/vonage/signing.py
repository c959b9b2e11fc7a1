"""Signatures: the ``sig`` of the SMS API and the JWT of the Messages API (docs/vonage.md 6).

Pure: a verdict is returned as data and nothing is raised, whatever comes in. Hashes and HMACs are
the standard library's; why no JWT library is used stands in docs/decisions.

What ``sig`` cannot do, by Vonage's rule: in values ``&``, ``=`` and ``_`` are the same to it, and
the parameters left out are not signed at all.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

# Vonage repeats a Messages webhook for 24 h; whether it signs anew each time, nobody says.
STALE_AFTER_S = 25 * 3600.0
# How far Vonage's clock may be ahead of ours.
AHEAD_S = 300.0

Parameters = Mapping[str, str] | Sequence[tuple[str, str]]


class Method(StrEnum):
    """The dashboard's words: MD5 of text and secret, or an HMAC of the text."""

    MD5HASH = "md5hash"
    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"


def verify_sig(
    parameters: Parameters,
    method: Method,
    secrets: Sequence[bytes],
    leave_out: Collection[str] = (),
) -> bool:
    """Whether ``sig`` is right under one of the secrets. Parameters are decoded, blanks kept.

    ``leave_out`` names parameters of our own URL, which Vonage does not sign. A name that comes
    twice is refused: the reader of the parameters might take the other one. An empty secret is no
    secret: everyone could sign with it.
    """
    given = _unique(parameters, leave_out)
    sig = given.get("sig", "") if given is not None else ""
    text = _canonical(given) if given is not None else None
    if text is None or not sig.isascii():
        return False
    sent = sig.lower()
    return any(
        hmac.compare_digest(_hex(text, method, secret), sent) for secret in secrets if secret
    )


def sign(
    parameters: Parameters, method: Method, secret: bytes, leave_out: Collection[str] = ()
) -> str:
    """The ``sig`` that Vonage would send: HMACs in upper case. Raises ValueError where
    :func:`verify_sig` would refuse the parameters, whatever their ``sig``."""
    given = _unique(parameters, leave_out)
    text = _canonical(given) if given is not None else None
    if text is None:
        raise ValueError("parameters that cannot be signed")
    signature = _hex(text, method, secret)
    return signature if method == Method.MD5HASH else signature.upper()


def json_parameters(fields: Mapping[str, object]) -> dict[str, str] | None:
    """The parameters of a flat JSON body. None where its values have no agreed text.

    Strings as a rule; ``timestamp`` was an integer once. A null is left out, as one SDK does: no
    source says how Vonage signs it.
    """
    parameters: dict[str, str] = {}
    for name, value in fields.items():
        if type(value) is int and abs(value) < 10**18:
            parameters[name] = str(value)
        elif type(value) is str:
            parameters[name] = value
        elif value is not None:
            return None
    return parameters


def _unique(parameters: Parameters, leave_out: Collection[str]) -> dict[str, str] | None:
    pairs = parameters.items() if isinstance(parameters, Mapping) else parameters
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in leave_out:
            continue
        if name in given:
            return None
        given[name] = value
    return given


def _canonical(given: Mapping[str, str]) -> bytes | None:
    """``&name=value`` for each but ``sig``, by name. None where two sets would give one text:
    a name with ``&`` or ``=`` could stand for several parameters, so it is refused."""
    parts = []
    # Names compare by code point, which is the order of their UTF-8 bytes.
    for name in sorted(given):
        if name != "sig":
            if "&" in name or "=" in name:
                return None
            parts.append(f"&{name}={given[name].replace('&', '_').replace('=', '_')}")
    try:
        # Who decodes percent signs with surrogateescape keeps bytes that are no UTF-8.
        return "".join(parts).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None


def _hex(text: bytes, method: Method, secret: bytes) -> str:
    if method == Method.MD5HASH:
        return hashlib.md5(text + secret).hexdigest()  # noqa: S324  # Vonage's rule, not ours
    return hmac.digest(secret, text, method.value).hex()


class Treatment(StrEnum):
    """What the edge does about a verdict (docs/edge.md)."""

    ACCEPT = "accept"
    LATER = "later"  # 503: a setting or clock of ours may be wrong, and Vonage tries again
    NEVER = "never"  # 401: nothing could make this valid
    QUARANTINE = "quarantine"  # 200: it is Vonage's, but not of now


class Verdict(StrEnum):
    """What is known of a token. Also a metric's label value: the set is bounded."""

    VALID = "valid"
    MISSING = "missing"
    UNKNOWN_ACCOUNT = "unknown_account"
    NO_SECRET = "no_secret"  # noqa: S105  # a word, not one
    WRONG_SIGNATURE = "wrong_signature"
    FUTURE = "future"
    NOT_A_JWT = "not_a_jwt"
    OTHER_ALGORITHM = "other_algorithm"
    BODY_MISMATCH = "body_mismatch"
    STALE = "stale"
    UNDATED = "undated"


TREATMENTS: Mapping[Verdict, Treatment] = {
    Verdict.VALID: Treatment.ACCEPT,
    Verdict.MISSING: Treatment.LATER,
    Verdict.UNKNOWN_ACCOUNT: Treatment.LATER,
    Verdict.NO_SECRET: Treatment.LATER,
    Verdict.WRONG_SIGNATURE: Treatment.LATER,
    # Signed for this body: a wrong clock is mended, or time goes by, and it is valid.
    Verdict.FUTURE: Treatment.LATER,
    Verdict.NOT_A_JWT: Treatment.NEVER,
    Verdict.OTHER_ALGORITHM: Treatment.NEVER,
    # Also where the claim is missing: nothing ties the token to this body.
    Verdict.BODY_MISMATCH: Treatment.NEVER,
    Verdict.STALE: Treatment.QUARANTINE,
    # Signed for this body, but without a time that says how old it is.
    Verdict.UNDATED: Treatment.QUARANTINE,
}


class JwtVerdict(Struct, frozen=True):
    """``account`` is one that we are configured for, or None: never a word of the sender alone.
    It is proven under VALID, STALE, UNDATED, FUTURE and BODY_MISMATCH, else only claimed."""

    verdict: Verdict
    account: str | None = None


class _Header(Struct, gc=False):
    alg: Any = None
    crit: Any = None


class _Claims(Struct, gc=False):
    api_key: Any = None
    payload_hash: Any = None
    iat: Any = None


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_claims = msgspec.json.Decoder(_Claims).decode
_split = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)").fullmatch
_HS256_LENGTH = 43  # characters of 32 bytes
_HEADER = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}')


def bearer(authorization: str | None) -> str:
    """The token of an ``Authorization`` header, or "": no header, or another scheme."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def verify_jwt(
    token: str,
    body: bytes,
    secrets: Mapping[str, Sequence[bytes]],
    now_s: float,
    *,
    stale_after_s: float = STALE_AFTER_S,
    ahead_s: float = AHEAD_S,
) -> JwtVerdict:
    """Judge the token of a Messages webhook; ``body`` is the raw bytes, ``secrets`` by api key.

    The order is the point: nothing that a claim says counts before its HMAC is right, but for the
    account that says which secret to try.
    """
    if not token:
        return JwtVerdict(Verdict.MISSING)
    # Errors become "?", which no token has.
    parts = _split(token.encode("ascii", "replace"))
    if parts is None:
        return JwtVerdict(Verdict.NOT_A_JWT)
    header, payload, signature = parts.groups()
    try:
        protected = _decode_header(_from_base64(header))
        claims = _decode_claims(_from_base64(payload))
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return JwtVerdict(Verdict.NOT_A_JWT)
    if protected.alg != "HS256" or protected.crit is not None:
        # An extension that must be understood, and is not, counts as another algorithm.
        known = type(protected.alg) is str
        return JwtVerdict(Verdict.OTHER_ALGORITHM if known else Verdict.NOT_A_JWT)
    if len(signature) != _HS256_LENGTH or type(claims.api_key) is not str:
        return JwtVerdict(Verdict.NOT_A_JWT)
    keys = secrets.get(claims.api_key)
    if keys is None:
        return JwtVerdict(Verdict.UNKNOWN_ACCOUNT)
    verdict = _judge(claims, header + b"." + payload, signature, body, keys)
    if verdict is Verdict.VALID:
        verdict = _age(claims.iat, now_s, stale_after_s, ahead_s)
    return JwtVerdict(verdict, claims.api_key)


def _judge(
    claims: _Claims, signed: bytes, signature: bytes, body: bytes, keys: Sequence[bytes]
) -> Verdict:
    usable = [key for key in keys if key]
    if not usable:
        return Verdict.NO_SECRET
    # Compared as text: base64 has spare bits at its end, and only one spelling is right.
    if not any(hmac.compare_digest(_signature(signed, key), signature) for key in usable):
        return Verdict.WRONG_SIGNATURE
    # No secret is compared here: who has the token can read the hash in it.
    if type(claims.payload_hash) is not str or claims.payload_hash.lower() != payload_hash(body):
        return Verdict.BODY_MISMATCH
    return Verdict.VALID


def _age(iat: object, now_s: float, stale_after_s: float, ahead_s: float) -> Verdict:
    if type(iat) is not int and type(iat) is not float:
        return Verdict.UNDATED
    if iat < now_s - stale_after_s:
        return Verdict.STALE
    return Verdict.FUTURE if iat > now_s + ahead_s else Verdict.VALID


def payload_hash(body: bytes) -> str:
    """The claim that ties a token to a body: lower hex SHA-256 of the raw bytes."""
    return hashlib.sha256(body).hexdigest()


def sign_jwt(claims: Mapping[str, object], body: bytes, secret: bytes) -> str:
    """A token as Vonage makes them. ``payload_hash`` is added; one among the claims wins."""
    if "payload_hash" not in claims:
        claims = {**claims, "payload_hash": payload_hash(body)}
    payload = msgspec.json.encode(claims)
    signed = _HEADER.rstrip(b"=") + b"." + urlsafe_b64encode(payload).rstrip(b"=")
    return (signed + b"." + _signature(signed, secret)).decode("ascii")


def _signature(signed: bytes, secret: bytes) -> bytes:
    return urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")


def _from_base64(segment: bytes) -> bytes:
    return urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
