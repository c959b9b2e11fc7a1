"""The SQL that the loader writes with, made from the tables of ``sinks/rows.py``.

Columns are named everywhere: a newer schema may have more of them. All names are our own constants.
"""
# ruff: noqa: S608  # no value ever stands in a statement: rows come by COPY, keys as parameters

from __future__ import annotations

from collections.abc import Callable, Iterable

from sinks.fragments import OF_MESSAGES, OF_ROLLUPS, SUCCESSES, VERSION, Rule
from sinks.rows import EVENTS, INBOUND, MESSAGES, ROLLUPS, TABLES, Column, Table


def staging(table: Table) -> str:
    return f"sendtrace_staging_{table.name}"


def _staged(column: Column) -> str:
    """The type in the staging table: what the row holds. Integers cost asyncpg the least."""
    stored = {"time_us": "bigint", "money_units": "bigint", "texts": "text[]", "long_text": "text"}
    return f"{column.name} {stored.get(column.kind, column.kind)}"


def _selected(column: Column) -> str:
    """The stored value from the staged one, exactly."""
    if column.kind == "time_us":
        return f"timestamptz 'epoch' + s.{column.name} * interval '1 microsecond'"
    if column.kind == "money_units":
        return f"s.{column.name} * 0.00000001"
    return f"s.{column.name}"


def _comma(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def create_staging(table: Table) -> str:
    return (
        f"create temporary table {staging(table)} ({_comma(map(_staged, table.columns))}) "
        "on commit delete rows"
    )


def _upsert(
    table: Table,
    condition: str = "true",
    *,
    value_of: Callable[[str], str] = "excluded.{}".format,
    replaced_if: str = "",
    also: str = "",
    source: str = "",
) -> str:
    """From the staging table, or from a ``source`` that holds the stored types."""
    later = (
        f"(excluded.topic_epoch, excluded.source_offset) "
        f"> ({table.name}.topic_epoch, {table.name}.source_offset)"
    )
    values = [f"{name} = {value_of(name)}" for name in table.names if name not in table.key]
    values += [also] if also else []
    selected = _comma(table.names if source else map(_selected, table.columns))
    return f"""
    insert into {table.name} ({_comma(table.names)})
    select {selected} from {source or staging(table)} as s where {condition}
    on conflict ({_comma(table.key)}) do update set {_comma(values)}
    where {replaced_if or later}"""


def _merge(
    rule: Rule, condition: str, *, replaced_if: str = "", also: str = "", source: str = ""
) -> str:
    """What ``sinks.fragments.merged`` makes of each column."""
    return _upsert(
        rule.table,
        condition,
        value_of=lambda name: _merged_value(rule, name),
        replaced_if=replaced_if,
        also=also,
        source=source,
    )


def _merged_value(rule: Rule, name: str) -> str:
    table = rule.table.name
    old, new = f"{table}.{name}", f"excluded.{name}"
    if name in VERSION:
        return new
    if name == "fragment":
        return old
    if name in rule.outcome:
        return f"case when {_takes_outcome(table)} then {new} else {old} end"
    if name in rule.cost:
        takes = f"{table}.cost is null or ({table}.fragment and excluded.cost is not null)"
        return f"case when {takes} then {new} else {old} end"
    if name == rule.earliest:
        return f"least({old}, {new})"
    if name == rule.latest:
        return f"greatest({old}, {new})"
    if name == rule.union:
        return f'array(select distinct unnest({old} || {new}) collate "C" order by 1)'
    later_first = f"case when {table}.fragment then coalesce({new}, {old})"
    return f"{later_first} else coalesce({old}, {new}) end"


def _takes_outcome(table: str) -> str:
    gain = f"({_success('excluded')}) - ({_success(table)})"
    return f"""(case when {table}.fragment
        then {gain} >= 0 and (excluded.is_final or not {table}.is_final)
        else {gain} > 0 or (excluded.is_final and not {table}.is_final) end)"""


def _success(row: str) -> str:
    ranks = " ".join(f"when '{outcome}' then {rank}" for outcome, rank in SUCCESSES.items())
    return f"case {row}.outcome {ranks} else 0 end"


_EVENT_FIELDS = [name for name in EVENTS.names if name not in EVENTS.key]
_NEW_EVENTS = f"""
insert into message_events ({_comma(EVENTS.names)})
select {_comma(map(_selected, EVENTS.columns))}
from {staging(EVENTS)} as s join written using (message_id)
on conflict ({_comma(EVENTS.key)}) do update
set {_comma(f"{name} = excluded.{name}" for name in _EVENT_FIELDS)}
where ({_comma(f"message_events.{name}" for name in _EVENT_FIELDS)})
    is distinct from ({_comma(f"excluded.{name}" for name in _EVENT_FIELDS)})"""

# Facts that stay as they were, nearly all, are not written again; those that are gone go. A row
# that was inserted (no transaction locked an older version: xmax is 0) had no facts to lose.
WRITE_MESSAGES = f"""
with written as ({_upsert(MESSAGES, "not s.fragment")}
    returning message_id, xmax <> 0 as was_there
), gone as (
    delete from message_events as e using written as w
    where w.was_there and e.message_id = w.message_id and not exists (
        select from {staging(EVENTS)} as s
        where {" and ".join(f"s.{name} = e.{name}" for name in EVENTS.key)}
    )
) {_NEW_EVENTS}"""

WRITE_FRAGMENTS = f"""
with written as ({_merge(OF_MESSAGES, "s.fragment")}
    returning message_id
) {_NEW_EVENTS}"""

WRITE_ROLLUPS = _upsert(ROLLUPS, "not s.fragment", also="updated_at = now()")
WRITE_ROLLUP_FRAGMENTS = _merge(OF_ROLLUPS, "s.fragment", also="updated_at = now()")

# Whose sender was forgotten; the topic has it for some days more.
_NOT_FORGOTTEN = """not exists (
    select from inbound_forgotten as f where f.message_id = s.message_id)"""
# A repeat is the same message: it keeps the time at which it first came.
WRITE_INBOUND = _upsert(
    INBOUND, _NOT_FORGOTTEN, replaced_if="excluded.topic_epoch > inbound.topic_epoch"
)


def delete(table: Table) -> str:
    [key] = table.key
    return f"""
delete from {table.name} as t
using unnest($1::text[], $2::bigint[], $3::bigint[]) as d (key, topic_epoch, source_offset)
where t.{key} = d.key and (d.topic_epoch, d.source_offset) > (t.topic_epoch, t.source_offset)"""


def swap(shadow: str) -> tuple[tuple[str, str], ...]:
    """What brings the tables to what a rebuild has derived in the schema ``shadow``: statements in
    order, each with the table that it changes.

    What the shadow does not know stays. A row that is as it was is not written again. Versions are
    not compared: the shadow has read at least as far as the loader.
    """
    messages, events, rollups, inbound = (f"{shadow}.{table.name}" for table in TABLES)
    same_event = " and ".join(f"s.{name} = e.{name}" for name in EVENTS.key)
    statements = (
        (MESSAGES, _delete_gone(MESSAGES, shadow)),
        (ROLLUPS, _delete_gone(ROLLUPS, shadow)),
        (MESSAGES, _rebuilt(MESSAGES, messages, "not s.fragment")),
        (
            EVENTS,
            f"""
            delete from message_events as e using {messages} as m
            where m.message_id = e.message_id and not m.fragment
                and not exists (select from {events} as s where {same_event})""",
        ),
        (MESSAGES, _merge(OF_MESSAGES, "s.fragment", replaced_if="true", source=messages)),
        (EVENTS, _rebuilt(EVENTS, events)),
        (ROLLUPS, _rebuilt(ROLLUPS, rollups, "not s.fragment")),
        (ROLLUPS, _merge(OF_ROLLUPS, "s.fragment", replaced_if="true", source=rollups)),
        # A repeat may be all that the topic still has: the first arrival stays.
        (
            INBOUND,
            _rebuilt(INBOUND, inbound, _NOT_FORGOTTEN, "excluded.arrived_at <= inbound.arrived_at"),
        ),
    )
    return tuple((table.name, statement) for table, statement in statements)


def _delete_gone(table: Table, shadow: str) -> str:
    [key] = table.key
    return f"""
    delete from {table.name} as t using {shadow}.gone as d
    where d.kind = '{table.name}' and t.{key} = d.key"""


def _rebuilt(table: Table, source: str, condition: str = "true", only_if: str = "true") -> str:
    replaced_if = f"{only_if} and {_differs(table)}"
    return _upsert(table, condition, replaced_if=replaced_if, source=source)


def _differs(table: Table) -> str:
    def row(of: str) -> str:
        return f"({_comma(f'{of}.{name}' for name in table.names)})"

    return f"{row(table.name)} is distinct from {row('excluded')}"


COMPARE_AND_SET = """
update sink_offsets as o set next = n.next, updated_at = now()
from unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])
     as n (topic, partition, expected, next)
where o.topic = n.topic and o.partition = n.partition and o.next = n.expected
"""

# Past a gap. Where the offsets start anew, rows that come are later than those that are there.
SKIP = """
update sink_offsets
set next = $4, topic_id = coalesce($5, topic_id), topic_epoch = topic_epoch + $6::integer,
    gaps = gaps + 1, gap_records = gap_records + $7::bigint, updated_at = now()
where topic = $1 and partition = $2 and next = $3
"""

# What is older than the retention, a bounded number at a time, each by an index.
PURGES = tuple(
    f"delete from {table} where {key} in (select {key} from {table} where {condition} limit $2)"
    for table, key, condition in (
        ("messages", "message_id", "sent_at < $1"),
        ("messages", "message_id", "sent_at is null and first_event_at < $1"),
        ("rollups", "id", "updated_at < $1"),
        ("inbound", "ctid", "arrived_at < $1"),
    )
)
