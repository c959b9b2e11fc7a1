"""The error catalogue: what a code of Vonage means, whose matter it is, whether to try again.

A table and a lookup. Codes come from people's carriers through several systems, so an unknown one
is data too: an :class:`Error` with ``known=False``. Whether a message failed is never decided here
but by its status alone (docs/rules.md 3): ``delivered`` with 1300 and ``accepted`` with 7 exist.

Sources: the tables of Vonage's references, and docs/vonage.md 5 for the codes that only SDKs and
single clients know (marked [U]) and for which codes of two APIs are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

Family = Literal[
    "sms_send",  # `status` in the answer of the SMS and Alerts API
    "dlr",  # `err-code` of a receipt
    "messages",  # the code of a Messages status
    "problem",  # the Messages API's answer: HTTP status, or with its fragment, as `422#1150`
]

Category = Literal[
    "none",  # no error
    "number",  # the number is well-formed, but its owner or handset cannot or must not get it
    "content",  # the text, media or template
    "carrier",  # a network or a route
    "account",  # our account: credit, credentials, features, campaigns
    "throttle",  # too much at once, or in a day
    "fraud",  # fraud protection, ours to configure
    "regulation",  # a country's rules: senders, entities, templates, consent
    "provider",  # Vonage's platform, or WhatsApp, Viber, Messenger, RCS
    "caller",  # the request itself: missing or wrong parameters, signing
    "no_confirmation",  # time ran out and nobody said what became of it
    "unknown",
]

Lasting = Literal[
    "none",
    "temporary",  # the same message may go through later
    "permanent",  # sending it again is pointless until who can act has acted
    "unclear",
]

Actor = Literal["sender", "recipient", "vonage", "carrier", "provider", "nobody"]

Version = Literal["v0.1", "v1"]


class Error(Struct, frozen=True):
    """One code. ``same_as`` names the codes of other APIs that say the same."""

    family: Family
    code: str
    name: str
    category: Category
    lasting: Lasting
    actor: Actor
    text: str
    same_as: tuple[tuple[Family, str], ...] = ()
    version: Version | None = None  # of the Messages webhook, where its versions differ
    known: bool = True


def lookup(family: Family, code: str, version: Version = "v1") -> Error:
    """The error of a code as events have it: text, "" for none. Any code gets an answer.

    ``sms_send`` has also ``http-429`` and the like, where an answer had no readable body.
    """
    if not code:
        return Error(family, "", "no error", "none", "none", "nobody", "No error was reported.")
    if family == "sms_send" and code.startswith("http-"):
        family, code = "problem", code.removeprefix("http-")
    found = _BY_VERSION.get((family, code, version)) or _BY_CODE.get((family, code))
    return found or Error(
        family,
        code,
        "unknown code",
        "unknown",
        "unclear",
        "nobody",
        "This code is not in the catalogue.",
        known=False,
    )


def problem(http_status: int, problem_type: str = "") -> Error:
    """The error of a refused call to the Messages API; ``problem_type`` is the body's ``type``.

    A fragment counts only beside the HTTP status that it is known with, and never as a code of
    the list: there 1150 is a message class, here it is any parameter; 1000 came with 429 and 500.
    """
    _, mark, fragment = problem_type.rpartition("#")
    exact = _BY_CODE.get(("problem", f"{http_status}#{fragment}")) if mark else None
    return exact or lookup("problem", str(http_status))


def _send(
    code: str,
    name: str,
    category: Category,
    lasting: Lasting,
    actor: Actor,
    text: str,
    messages: str = "",
) -> Error:
    same: tuple[tuple[Family, str], ...] = (("messages", messages),) if messages else ()
    return Error("sms_send", code, name, category, lasting, actor, text, same)


def _dlr(
    code: str,
    name: str,
    category: Category,
    lasting: Lasting,
    actor: Actor,
    text: str,
    messages: str = "",
) -> Error:
    same: tuple[tuple[Family, str], ...] = (("messages", messages),) if messages else ()
    return Error("dlr", code, name, category, lasting, actor, text, same)


def _msg(
    code: str,
    name: str,
    category: Category,
    lasting: Lasting,
    actor: Actor,
    text: str,
    version: Version | None = None,
) -> Error:
    return Error("messages", code, name, category, lasting, actor, text, version=version)


def _problem(
    code: str, name: str, category: Category, lasting: Lasting, actor: Actor, text: str
) -> Error:
    return Error("problem", code, name, category, lasting, actor, text)


# fmt: off
_SENDS = (
    # The last column is the Messages code whose text is the same (docs/vonage.md 5).
    _send("0", "success", "none", "none", "nobody",
          "Taken for sending; whether it arrives is for the receipt to say."),
    _send("1", "throttled", "throttle", "temporary", "sender",
          "Faster than this account or number may send.", "1000"),
    _send("2", "missing parameters", "caller", "permanent", "sender",
          "A required parameter was not in the request.", "1010"),
    _send("3", "invalid parameters", "caller", "permanent", "sender",
          "A parameter has a value that is not allowed.", "1020"),
    _send("4", "invalid credentials", "account", "permanent", "sender",
          "Key and secret do not match, or were disabled."),
    _send("5", "internal error", "provider", "temporary", "vonage",
          "Vonage's platform failed on this request.", "1030"),
    _send("6", "invalid message", "caller", "permanent", "sender",
          "Vonage could make nothing of it, a number with a strange prefix for one.", "1040"),
    _send("7", "number barred", "number", "permanent", "vonage",
          "Vonage has this number on its block list.", "1050"),
    _send("8", "account barred", "account", "permanent", "vonage",
          "Vonage has suspended this account.", "1060"),
    _send("9", "no credit", "account", "permanent", "sender",
          "The balance does not cover this message.", "1070"),
    _send("10", "too many binds", "throttle", "temporary", "sender",
          "More connections at once than the account may have."),
    _send("11", "not enabled for HTTP", "account", "permanent", "vonage",
          "The account may send by SMPP only.", "1080"),
    _send("12", "message too long", "content", "permanent", "sender",
          "The text or binary body is above the limit.", "1090"),
    _send("13", "communication failed", "provider", "temporary", "vonage",
          "It was not submitted; only SDKs still name this status [U].", "1100"),
    _send("14", "invalid signature", "caller", "permanent", "sender",
          "Our request was signed wrongly: secret, method or clock."),
    _send("15", "invalid sender", "regulation", "permanent", "sender",
          "This sender may not be used for the recipient's country.", "1120"),
    _send("16", "invalid ttl", "caller", "permanent", "sender",
          "The time to live is out of range; only SDKs still name it [U].", "1130"),
    _send("17", "blocked by provider", "provider", "unclear", "provider",
          "The provider does not take it; an SDK says: unreachable number [U].", "1282"),
    _send("18", "too many destinations", "caller", "permanent", "sender",
          "More recipients than one call may have; only SDKs still name it [U]."),
    _send("19", "facility not allowed", "account", "permanent", "vonage",
          "A feature that this account has not; only SDKs still name it [U].", "1140"),
    _send("20", "invalid message class", "caller", "permanent", "sender",
          "The message class is out of range; only SDKs still name it [U].", "1150"),
    _send("22", "invalid network code", "caller", "permanent", "sender",
          "The network code is unknown, or of another country than the number."),
    _send("23", "invalid callback", "caller", "permanent", "sender",
          "The callback URL is too long or has illegal characters."),
    _send("29", "not on the test list", "account", "permanent", "sender",
          "A demo account sends only to numbers that were entered before.", "1160"),
    _send("32", "signature and secret", "caller", "permanent", "sender",
          "A signed request must not carry the secret as well."),
    _send("33", "number deactivated", "number", "permanent", "nobody",
          "The number is out of service."),
    _send("101", "no account for campaign", "account", "permanent", "vonage",
          "Short codes: no campaign is set up for this account."),
)

_RECEIPTS = (
    _dlr("0", "delivered", "none", "none", "nobody",
         "The carrier reported no error."),
    _dlr("1", "unknown", "carrier", "unclear", "carrier",
         "The carrier gave an error without a meaning; the number may be wrong.", "1330"),
    _dlr("2", "absent subscriber, temporary", "number", "temporary", "recipient",
         "The phone was off or out of reach.", "1180"),
    _dlr("3", "absent subscriber, permanent", "number", "permanent", "nobody",
         "The number is dead: take it off the lists.", "1190"),
    _dlr("4", "call barred by user", "number", "permanent", "recipient",
         "The subscriber has such messages barred; only they can lift it."),
    _dlr("5", "portability error", "carrier", "permanent", "recipient",
         "The number's move to another carrier went wrong.", "1200"),
    _dlr("6", "anti-spam rejection", "content", "permanent", "sender",
         "The carrier's filter took the sender or the text for spam.", "1210"),
    _dlr("7", "handset busy", "number", "temporary", "recipient",
         "The handset could not take it; under accepted it is still being tried.", "1220"),
    _dlr("8", "network error", "carrier", "temporary", "carrier",
         "A network failed on the way.", "1230"),
    _dlr("9", "illegal number", "number", "permanent", "recipient",
         "The recipient has opted out, by STOP as a rule.", "1240"),
    _dlr("10", "invalid message", "caller", "permanent", "sender",
         "A parameter such as the type or the header was wrong.", "1040"),  # by name only [U]
    _dlr("11", "unroutable", "carrier", "permanent", "vonage",
         "No usable route to this network from this sender.", "1250"),
    _dlr("12", "destination unreachable", "carrier", "unclear", "vonage",
         "It could not be brought to this number.", "1260"),
    _dlr("13", "age restriction", "content", "permanent", "recipient",
         "The carrier holds the content unfit for this subscriber's age.", "1270"),
    _dlr("14", "blocked by carrier", "carrier", "permanent", "recipient",
         "The carrier blocks it: a plan without SMS, or a suspended line.", "1280"),
    _dlr("15", "prepaid without funds", "number", "temporary", "recipient",
         "The recipient's prepaid balance is too low to receive.", "1290"),
    _dlr("16", "gateway quota exceeded", "throttle", "temporary", "vonage",
         "A gateway was over its quota; one client's table has it [U]."),
    _dlr("50", "entity filter", "regulation", "permanent", "sender",
         "The entity id is missing, wrong or not registered.", "1480"),
    _dlr("51", "header filter", "regulation", "permanent", "sender",
         "The sender is not registered, or not for this entity.", "1481"),
    _dlr("52", "content filter", "regulation", "permanent", "sender",
         "The text does not match its registered template.", "1482"),
    _dlr("53", "consent filter", "regulation", "permanent", "sender",
         "The recipient's registered consent does not cover it.", "1483"),
    _dlr("54", "regulation error", "regulation", "unclear", "vonage",
         "Some rule of the country stopped it; Vonage has to say which.", "1484"),
    _dlr("95", "unknown failure", "unknown", "unclear", "vonage",
         "Only the title of a support article names it [U]."),
    _dlr("99", "general error", "carrier", "unclear", "vonage",
         "Something is wrong with the chosen route."),
)

_MESSAGES = (
    _msg("1000", "throttled", "throttle", "temporary", "sender",
         "Faster than this account or number may send."),
    _msg("1010", "missing parameters", "caller", "permanent", "sender",
         "A required parameter was not in the request."),
    _msg("1020", "invalid parameters", "caller", "permanent", "sender",
         "A parameter has a value that is not allowed."),
    _msg("1021", "invalid tag", "caller", "permanent", "sender",
         "The message tag is not one of the provider's."),
    _msg("1022", "invalid template", "content", "permanent", "sender",
         "The template or its parameters do not fit."),
    _msg("1030", "internal error", "provider", "temporary", "vonage",
         "Vonage's platform failed on this request."),
    _msg("1040", "invalid message", "caller", "permanent", "sender",
         "Vonage could make nothing of it, a number with a strange prefix for one."),
    _msg("1050", "number barred", "number", "permanent", "vonage",
         "Vonage has this number on its block list."),
    _msg("1060", "account barred", "account", "permanent", "vonage",
         "Vonage has suspended this account."),
    _msg("1070", "no credit", "account", "permanent", "sender",
         "The balance does not cover this message."),
    _msg("1080", "not enabled for REST", "account", "permanent", "vonage",
         "The account may send by SMPP only."),
    _msg("1090", "message too long", "content", "permanent", "sender",
         "Header and binary body are above 140 octets."),
    _msg("1100", "communication failed", "provider", "temporary", "vonage",
         "A connection failed before it was submitted."),
    _msg("1120", "illegal sender", "regulation", "permanent", "sender",
         "This sender may not be used for the recipient's country."),
    _msg("1130", "invalid ttl", "caller", "permanent", "sender",
         "The time to live is out of range."),
    _msg("1140", "facility not allowed", "account", "permanent", "vonage",
         "The request uses a feature that this account does not have."),
    _msg("1150", "invalid message class", "caller", "permanent", "sender",
         "The message class is out of range."),
    _msg("1160", "not on the test list", "account", "permanent", "sender",
         "A demo account sends only to numbers that were entered before."),
    _msg("1170", "invalid or missing number", "caller", "permanent", "sender",
         "The recipient is missing or is no phone number."),
    _msg("1180", "absent subscriber, temporary", "number", "temporary", "recipient",
         "The phone was off or out of reach."),
    _msg("1190", "absent subscriber, permanent", "number", "permanent", "nobody",
         "The number is dead: take it off the lists."),
    _msg("1200", "portability error", "carrier", "permanent", "recipient",
         "The number's move to another carrier went wrong."),
    _msg("1210", "anti-spam rejection", "content", "permanent", "sender",
         "The carrier's filter took the sender or the text for spam."),
    _msg("1220", "handset busy", "number", "temporary", "recipient",
         "The handset could not take it; under submitted it is still being tried."),
    _msg("1230", "network error", "carrier", "temporary", "carrier",
         "A network failed on the way."),
    _msg("1240", "illegal number", "number", "permanent", "recipient",
         "The recipient has opted out, by STOP as a rule."),
    _msg("1241", "too many sends", "throttle", "temporary", "sender",
         "Too many messages to the same phone numbers."),
    _msg("1250", "unroutable", "carrier", "permanent", "vonage",
         "No usable route to this network from this sender."),
    _msg("1251", "no route by rule", "carrier", "permanent", "vonage",
         "Routing rules leave no way to the recipient's network."),
    _msg("1260", "destination unreachable", "carrier", "unclear", "vonage",
         "It could not be brought to this number; on Viber, its country may be closed to us."),
    _msg("1270", "age restriction", "content", "permanent", "recipient",
         "The carrier holds the content unfit for this subscriber's age."),
    _msg("1280", "blocked by carrier", "carrier", "permanent", "recipient",
         "The carrier blocks it: a plan without SMS, or a suspended line."),
    _msg("1282", "blocked by provider", "provider", "unclear", "provider",
         "The provider does not take it, for its content or by a rule of its own."),
    _msg("1290", "prepaid without funds", "number", "temporary", "recipient",
         "The recipient's prepaid balance is too low to receive."),
    _msg("1300", "not on this network", "number", "permanent", "recipient",
         "The number or id has no account with this provider."),
    _msg("1310", "unsuitable device", "number", "permanent", "recipient",
         "The recipient's device cannot show such a message."),
    _msg("1320", "already sent", "caller", "permanent", "nobody",
         "The same message went out before."),
    _msg("1330", "unknown", "carrier", "unclear", "carrier",
         "The carrier gave an error without a meaning; the number may be wrong."),
    _msg("1331", "provider error", "provider", "temporary", "provider",
         "The provider did not answer, or could not work; minutes later it may."),
    _msg("1340", "outside of the window", "provider", "permanent", "sender",
         "Too long after the recipient's last message; a template may still be sent."),
    _msg("1350", "matching fee unpaid", "account", "permanent", "sender",
         "The Facebook page has not paid for phone matching."),
    _msg("1360", "ttl reached", "no_confirmation", "temporary", "sender",
         "The time to live ran out before a delivery was confirmed.", "v1"),
    _msg("1360", "ttl reached, not charged", "no_confirmation", "temporary", "sender",
         "The time to live ran out; no callbacks follow and nothing is charged.", "v0.1"),
    _msg("1370", "access token expired", "account", "permanent", "sender",
         "The Facebook page has to be connected with Vonage anew."),
    _msg("1380", "invalid resource", "content", "permanent", "sender",
         "The media could not be fetched from its URL."),
    _msg("1381", "resource too large", "content", "permanent", "sender",
         "The media file is above the channel's limit."),
    _msg("1382", "invalid resource type", "content", "permanent", "sender",
         "The channel does not take files of this type."),
    _msg("1400", "unsupported channel", "caller", "permanent", "sender",
         "There is no such channel, or not for this account."),
    _msg("1410", "invalid channel parameters", "caller", "permanent", "sender",
         "A parameter does not fit the channel."),
    _msg("1420", "invalid sender", "caller", "permanent", "sender",
         "The sender does not fit the channel."),
    _msg("1430", "invalid recipient", "caller", "permanent", "sender",
         "The recipient does not fit the channel."),
    _msg("1440", "invalid message type", "caller", "permanent", "sender",
         "The channel has no messages of this type."),
    _msg("1450", "invalid client reference", "caller", "permanent", "sender",
         "The reference is no text, or longer than 100 characters."),
    _msg("1451", "invalid context", "caller", "permanent", "sender",
         "The message that this one answers is not known any more."),
    _msg("1460", "daily limit exceeded", "throttle", "temporary", "sender",
         "More in a day than rules such as 10DLC allow this sender."),
    _msg("1461", "limited by provider", "provider", "temporary", "provider",
         "The provider spares this recipient: they got many messages lately."),
    _msg("1470", "traffic rule", "fraud", "permanent", "sender",
         "Fraud Defender blocks the number's prefix by a rule of the account."),
    _msg("1471", "sequential dialing", "fraud", "temporary", "sender",
         "Too many recipients whose numbers lie close together."),
    _msg("1472", "traffic burst", "fraud", "temporary", "sender",
         "Traffic rose faster than the account's threshold."),
    _msg("1473", "artificial traffic", "fraud", "permanent", "sender",
         "The number is known from artificially inflated traffic."),
    _msg("1474", "fraud score", "fraud", "permanent", "sender",
         "The fraud score is above the account's threshold."),
    _msg("1480", "entity filter", "regulation", "permanent", "sender",
         "The entity id is missing, wrong or not registered."),
    _msg("1481", "header filter", "regulation", "permanent", "sender",
         "The sender is not registered, or not for this entity."),
    _msg("1482", "content filter", "regulation", "permanent", "sender",
         "The text does not match its registered template."),
    _msg("1483", "consent filter", "regulation", "permanent", "sender",
         "The recipient's registered consent does not cover it."),
    _msg("1484", "regulation error", "regulation", "unclear", "vonage",
         "Some rule of the country stopped it; Vonage has to say which."),
)

_PROBLEMS = (
    _problem("400", "bad request", "caller", "permanent", "sender",
             "The request has not the form that the API expects."),
    _problem("401", "unauthorised", "account", "permanent", "sender",
             "Token or key were not accepted."),
    _problem("401#unathorized", "unauthorised", "account", "permanent", "sender",
             "Token or key were not accepted; the fragment is spelled so."),
    _problem("401#unauthorized", "unauthorised", "account", "permanent", "sender",
             "Token or key were not accepted."),
    _problem("401#unprovisioned", "unprovisioned", "account", "permanent", "vonage",
             "The credentials are right, but the product is not enabled for them."),
    _problem("402", "payment required", "account", "permanent", "sender",
             "The balance does not cover this message."),
    _problem("402#low-balance", "low balance", "account", "permanent", "sender",
             "The balance does not cover this message."),
    _problem("404", "not found", "caller", "permanent", "sender",
             "There is no such message, or it is not this account's."),
    _problem("404#not-found", "not found", "caller", "permanent", "sender",
             "There is no such message, or it is not this account's."),
    _problem("422", "unprocessable", "caller", "permanent", "sender",
             "Something in the request is not allowed; the body says what."),
    _problem("422#invalid-json", "invalid JSON", "caller", "permanent", "sender",
             "The body of the request was no JSON."),
    _problem("422#1060", "invalid client reference", "caller", "permanent", "sender",
             "The reference is no text, or too long."),
    _problem("422#1100", "unsupported channel", "caller", "permanent", "sender",
             "There is no such channel, or not for this account."),
    _problem("422#1110", "invalid channel parameters", "caller", "permanent", "sender",
             "A parameter does not fit the channel."),
    _problem("422#1120", "invalid sender", "caller", "permanent", "sender",
             "The sender does not fit the channel."),
    _problem("422#1140", "invalid message type", "caller", "permanent", "sender",
             "The message type or the recipient does not fit the channel."),
    _problem("422#1150", "invalid parameters", "caller", "permanent", "sender",
             "A parameter has a value that is not allowed."),
    _problem("429", "rate limit", "throttle", "temporary", "sender",
             "More requests than the API takes from this account."),
    _problem("500", "internal error", "provider", "temporary", "vonage",
             "Vonage's platform failed on this request."),
)
# fmt: on


def _with_references(rows: tuple[Error, ...]) -> tuple[Error, ...]:
    """Receipts and sends name their Messages code; here each Messages code learns who names it."""
    named: dict[str, list[tuple[Family, str]]] = {}
    for row in rows:
        for family, code in row.same_as:
            if family == "messages":
                named.setdefault(code, []).append((row.family, row.code))
    return tuple(
        replace(row, same_as=tuple(named.get(row.code, ()))) if row.family == "messages" else row
        for row in rows
    )


CATALOGUE: tuple[Error, ...] = _with_references(_SENDS + _RECEIPTS + _MESSAGES + _PROBLEMS)

_BY_CODE: Mapping[tuple[Family, str], Error] = {
    (row.family, row.code): row for row in CATALOGUE if row.version is None
}
_BY_VERSION: Mapping[tuple[Family, str, Version], Error] = {
    (row.family, row.code, row.version): row for row in CATALOGUE if row.version is not None
}
