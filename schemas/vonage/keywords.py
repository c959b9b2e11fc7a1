"""What somebody asks for in one word: STOP, HELP, or something else.

The word itself is content and not kept (docs/rules.md 6). The words are those that US carriers
require a sender to honour; Vonage passes them on in ``keyword``, upper case as a rule.
"""

from __future__ import annotations

from schemas.events import KeywordClass

_STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
_HELP = frozenset({"HELP", "INFO"})
# Nobody writes a longer one; the rest of a long text is not looked at.
_LONGEST = 64


def keyword_class(keyword: object, words: object) -> KeywordClass:
    """By the keyword, else by the first word of the text. A keyword may hold several lines."""
    for given in (None if keyword == "null" else keyword, words):
        if type(given) is str:
            first = given[:_LONGEST].split(maxsplit=1)
            if first:
                return _class_of(first[0].strip(".,;:!?\"'()").upper())
    return "none"


def _class_of(word: str) -> KeywordClass:
    if word in _STOP:
        return "STOP"
    return "HELP" if word in _HELP else "other"
