"""Writes ``schemas/phone_prefixes.py``: which country a number is of, from `phonenumbers`' data.

python tools/phone_prefixes.py

Most calling codes are of one country. In a shared one (+1, +7, +44, ...) the package looks at a
region's leading digits, or whether the number is valid there, after it has taken a national prefix
away (+44 0 20 ...). All of that is a regular language, so here it becomes one automaton over
digits: states that differ in nothing are one, and where no further digit matters it ends.
"""

from __future__ import annotations

import re._constants as c
import re._parser as sre
from functools import cache
from pathlib import Path
from typing import Any

import phonenumbers
from phonenumbers.data import _COUNTRY_CODE_TO_REGION_CODE as REGIONS_OF
from phonenumbers.phonemetadata import PhoneMetadata

TARGET = Path(__file__).parents[1] / "schemas" / "phone_prefixes.py"
SHORTEST, LONGEST = 7, 15
DIGITS = "0123456789"
# Different ones of these make a number valid.
TYPES = ("premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan",
         "voicemail", "fixed_line", "mobile")  # fmt: skip
TOO_SHORT, POSSIBLE, TOO_LONG = "short", "possible", "long"
Label = str | None


class Language:
    """A pattern as a set of states, digit by digit (Brzozowski's derivatives)."""

    def __init__(self, pattern: str, any_end: bool = False) -> None:
        self.start = frozenset({tree(rf"(?:{pattern})\d*" if any_end else pattern)})

    @staticmethod
    def step(state: frozenset[Any], digit: str) -> frozenset[Any]:
        return frozenset().union(*(derive(term, digit) for term in state))

    @staticmethod
    def accepts(state: frozenset[Any]) -> bool:
        return any(nullable(term) for term in state)


# A term is a tuple of items, each ("set", digits), ("alt", terms) or ("repeat", low, high, term).
@cache
def tree(pattern: str) -> tuple[Any, ...]:
    return term_of(sre.parse(pattern))


def term_of(parsed: Any) -> tuple[Any, ...]:
    return tuple(item for op, value in parsed for item in items_of(op, value))


def items_of(op: Any, value: Any) -> list[Any]:
    if op is c.LITERAL:
        return [("set", chr(value))]
    if op is c.IN:
        return [("set", "".join(d for d in DIGITS if any(within(d, o, v) for o, v in value)))]
    if op is c.SUBPATTERN:
        return list(term_of(value[3]))
    if op is c.BRANCH:
        return [("alt", tuple(term_of(branch) for branch in value[1]))]
    if op is c.MAX_REPEAT:
        low, high, inner = value
        return [("repeat", low, -1 if high is c.MAXREPEAT else high, term_of(inner))]
    raise ValueError(f"a pattern with {op} is new here")


def within(digit: str, op: Any, value: Any) -> bool:
    if op is c.LITERAL:
        return ord(digit) == value
    if op is c.RANGE:
        return value[0] <= ord(digit) <= value[1]
    if op is c.CATEGORY and value is c.CATEGORY_DIGIT:
        return True
    raise ValueError(f"a class with {op} {value} is new here")


@cache
def nullable(term: tuple[Any, ...]) -> bool:
    return all(
        item[0] != "set"
        and (any(map(nullable, item[1])) if item[0] == "alt" else item[1] == 0 or nullable(item[3]))
        for item in term
    )


@cache
def derive(term: tuple[Any, ...], digit: str) -> frozenset[tuple[Any, ...]]:
    if not term:
        return frozenset()
    item, rest = term[0], term[1:]
    if item[0] == "set":
        return frozenset({rest}) if digit in item[1] else frozenset()
    if item[0] == "alt":
        return frozenset().union(*(derive(branch + rest, digit) for branch in item[1]))
    _, low, high, inner = item
    if high == 0:
        return derive(rest, digit)
    less = ("repeat", max(0, low - 1), high if high < 0 else high - 1, inner)
    found = frozenset((*after, less, *rest) for after in derive(inner, digit))
    return found | derive(rest, digit) if low == 0 else found


class Region:
    """What makes a number one of this region's."""

    def __init__(self, name: str) -> None:
        data = PhoneMetadata.metadata_for_region(name)
        self.name = name
        self.languages: list[tuple[Language, frozenset[int]]] = []
        self.has_leading = data.leading_digits is not None
        if self.has_leading:
            self.languages.append((Language(data.leading_digits, any_end=True), frozenset()))
            return
        self.add(data.general_desc)
        for kind in TYPES:
            desc = getattr(data, kind)
            if desc is not None and desc.national_number_pattern:
                self.add(desc)

    def add(self, desc: Any) -> None:
        language = Language(desc.national_number_pattern)
        self.languages.append((language, frozenset(desc.possible_length)))

    def is_of(self, states: list[frozenset[Any]], length: int) -> bool:
        accepted = [
            Language.accepts(state) and (not lengths or length in lengths)
            for state, (_, lengths) in zip(states, self.languages, strict=True)
        ]
        return accepted[0] if self.has_leading else accepted[0] and any(accepted[1:])


class Shared:
    """A calling code of several regions."""

    def __init__(self, code: int) -> None:
        self.regions = [Region(name) for name in REGIONS_OF[code]]
        main = PhoneMetadata.metadata_for_region(REGIONS_OF[code][0])
        self.viable = Language(main.general_desc.national_number_pattern)
        self.lengths = set(main.general_desc.possible_length)
        self.local = set(main.general_desc.possible_length_local_only)
        if main.national_prefix_transform_rule is not None:
            raise ValueError(f"+{code} rewrites national numbers: that is new here")
        self.prefixes = words(tree(main.national_prefix_for_parsing or "0{9}"))

    def start(self) -> tuple[Any, ...]:
        """All languages at their beginning: the viable one, then the regions'."""
        return (
            self.viable.start,
            *(language.start for r in self.regions for language, _ in r.languages),
        )

    def read(self, states: tuple[Any, ...], digit: str) -> tuple[Any, ...]:
        return tuple(Language.step(state, digit) for state in states)

    def label(self, national: str, whole: tuple[Any, ...], stripped: tuple[Any, ...] | None,
              prefix: str) -> Label:  # fmt: skip
        if stripped is not None:
            length = len(national) - len(prefix)
            loses = Language.accepts(whole[0]) and not Language.accepts(stripped[0])
            if length > 0 and not loses and self.is_long_enough(length):
                return self.region(stripped, length)
        return self.region(whole, len(national))

    def is_long_enough(self, length: int) -> bool:
        return length not in self.local and (length in self.lengths or length > max(self.lengths))

    def region(self, states: tuple[Any, ...], length: int) -> Label:
        at = 1
        for region in self.regions:
            mine = list(states[at : at + len(region.languages)])
            at += len(region.languages)
            if region.is_of(mine, length):
                return region.name
        return None


def words(term: tuple[Any, ...]) -> list[str]:
    """The words of a finite language: national prefixes."""
    found, queue = [], [("", frozenset({term}))]
    while queue:
        word, state = queue.pop()
        if Language.accepts(state):
            found.append(word)
        queue += [(word + d, after) for d in DIGITS if (after := Language.step(state, d))]
    return found


class Automaton:
    """Nodes with ten children each; equal ones are one, and a child may be a country."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[Any, ...], int] = {}
        self.memo: dict[Any, Any] = {}

    def node(self, label: Any, children: list[Any], depth: int) -> Any:
        """``label`` is the country of a number that ends here; ``("end", x)`` always is x."""
        same = children[0]
        is_one = isinstance(same, tuple) and all(child == same for child in children)
        if is_one and (depth < SHORTEST or label == same[1]):
            return same
        key = (None if depth < SHORTEST else label, *children)
        return self.nodes.setdefault(key, len(self.nodes))

    def shared(self, code: str) -> Any:
        one = Shared(int(code))

        def build(national: str, whole: Any, stripped: Any, prefix: str) -> Any:
            depth = len(code) + len(national)
            open_prefixes = stripped is None and any(p.startswith(national) for p in one.prefixes)
            key = (code, depth, whole, stripped, prefix, national if open_prefixes else "")
            if key not in self.memo:
                label = one.label(national, whole, stripped, prefix)
                self.memo[key] = (
                    ("end", label)
                    if depth == LONGEST
                    else self.node(
                        label,
                        [descend(national, whole, stripped, prefix, d) for d in DIGITS],
                        depth,
                    )
                )
            return self.memo[key]

        def descend(national: str, whole: Any, stripped: Any, prefix: str, digit: str) -> Any:
            national += digit
            after = None if stripped is None else one.read(stripped, digit)
            if stripped is None and national in one.prefixes:
                after, prefix = one.start(), national
            return build(national, one.read(whole, digit), after, prefix)

        return build("", one.start(), None, "")

    def root(self, prefix: str = "") -> Any:
        if prefix and int(prefix) in REGIONS_OF and prefix[0] != "0":
            regions = REGIONS_OF[int(prefix)]
            if len(regions) > 1:
                return self.shared(prefix)
            return ("end", None if regions[0] == "001" else regions[0])
        if len(prefix) == 3 or prefix.startswith("0"):
            return ("end", None)
        return self.node(None, [self.root(prefix + digit) for digit in DIGITS], len(prefix))


HEAD = '''"""Which country a number is of, as an automaton over its digits. Generated: do not edit.

By tools/phone_prefixes.py from `phonenumbers` {version}. Line n is state n: who a number that ends
there is of, then what each digit from 0 to 9 leads to: a state, or a country that no further digit
changes. A hyphen is no country. The first state is the last line.
"""

STATES = """\\
{lines}
"""
'''


def cell(child: Any) -> str:
    return str(child) if isinstance(child, int) else child[1] or "-"


def main() -> None:
    automaton = Automaton()
    root = automaton.root()
    if root != len(automaton.nodes) - 1:
        raise AssertionError("the root is made last")
    lines = [
        " ".join([label or "-", *map(cell, children)]) for (label, *children) in automaton.nodes
    ]
    TARGET.write_text(HEAD.format(version=phonenumbers.__version__, lines="\n".join(lines)))
    print(f"{len(lines)} states, {TARGET.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
