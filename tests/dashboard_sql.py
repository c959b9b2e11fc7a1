"""What the panels of the dashboard must show, as SQL over the warehouse."""

from __future__ import annotations

LIVE = "from messages where traffic = 'live'"
RATE_OF = (
    "select count(*) filter (where outcome in ('delivered', 'read'))::float"
    " / nullif(count(*) filter (where outcome {}), 0) from messages where traffic = 'live'"
)
ANSWERED = "in ('delivered', 'read', 'rejected', 'failed', 'undeliverable')"
ACCEPTED = "not in ('refused', 'unanswered', 'untracked')"
FLAG = f"select count(*) {LIVE} and '{{}}' = any(flags)"
# What each panel must say: the labels first, the figure last. Windows are whole: nothing is older.
SQL: dict[str, tuple[tuple[str, ...], str]] = {
    "Delivered of answered": ((), RATE_OF.format(ANSWERED)),
    "Delivered of accepted": ((), RATE_OF.format(ACCEPTED)),
    "Accepted in an hour": ((), f"select count(*) {LIVE} and outcome {ACCEPTED}"),
    "Pending now": ((), f"select count(*) {LIVE} and outcome = 'pending'"),
    "Missing now": ((), f"select count(*) {LIVE} and outcome = 'missing'"),
    "Messages now, by outcome": (("outcome",), f"select outcome, count(*) {LIVE} group by 1"),
    "Messages now, by channel": (
        ("channel",),
        f"select coalesce(channel, 'none'), count(*) {LIVE} group by 1",
    ),
    "Sends now, by answer": (
        ("answer",),
        f"select coalesce(answer, 'none'), count(*) {LIVE} and sent_at is not null group by 1",
    ),
    "Failures now, by category": (
        ("category",),
        f"select category, count(*) {LIVE} and category is not null group by 1",
    ),
    "Failures in an hour, by category": (
        ("category",),
        f"select category, count(*) {LIVE} and category is not null group by 1",
    ),
    "Failures now, by code": (
        ("code", "outcome"),
        f"select coalesce(code, 'none'), outcome, count(*) {LIVE} and category is not null"
        " group by 1, 2",
    ),
    "Sends without an event": ((), FLAG.format("no_first_event")),
    "Late": ((), FLAG.format("late")),
    "Contradicting": ((), FLAG.format("contradiction")),
    "Flags now": (
        ("flag",),
        "select flag, count(*) from messages, unnest(flags) flag where traffic = 'live' group by 1",
    ),
    "Events without a send": ((), f"select count(*) {LIVE} and sent_at is null"),
    "Codes and statuses never seen before": (
        ("code", "status"),
        "select coalesce(code, 'none'),"
        " case when outcome = 'unknown' then coalesce(status_last, 'none') else 'none' end,"
        " count(*) from messages where outcome = 'unknown' or 'unknown_code' = any(flags)"
        " group by 1, 2",
    ),
    "Cost now, by currency": (
        ("currency",),
        f"select currency, sum(cost) {LIVE} and cost is not null group by 1",
    ),
    "Cost in a day, by channel": (
        ("channel", "currency"),
        f"select coalesce(channel, 'none'), currency, sum(cost) {LIVE} and cost is not null"
        " group by 1, 2",
    ),
    "Estimate against event": (
        ("cost_source", "currency"),
        "select which, currency, sum(case which when 'event' then cost else estimate end)"
        " from messages, unnest(array['event', 'estimate']) which"
        " where traffic = 'live' and cost_source = 'event' and estimate is not null group by 1, 2",
    ),
    "Cost per delivered message, in a day": (
        ("account", "api", "channel", "country", "currency"),
        "with m as (select coalesce(account, 'none') a, coalesce(api, 'none') b,"
        f" coalesce(channel, 'none') c, coalesce(country, 'none') d, * {LIVE}),"
        " delivered as (select a, b, c, d, count(*) n from m"
        " where outcome in ('delivered', 'read') group by 1, 2, 3, 4)"
        " select a, b, c, d, currency, sum(cost) / n from m join delivered using (a, b, c, d)"
        " where cost is not null group by a, b, c, d, currency, n",
    ),
    "Segments per send": (
        ("api",),
        "select api, sum(coalesce(segments, 1))::float"
        " / count(*) filter (where coalesce(part, 1) = 1)"  # without a send nobody knows: one
        f" {LIVE} and (segments is not null or api in ('sms', 'alerts', 'sms_or_alerts'))"
        " group by 1 having count(*) filter (where coalesce(part, 1) = 1) > 0",
    ),
    "Messages now, by sender": (
        ("sender",),
        f"select coalesce(sender, 'none'), count(*) {LIVE} group by 1",
    ),
    "Receipt coverage by network": (
        ("network", "channel"),
        "select coalesce(network_final, network_estimated, 'none'), coalesce(channel, 'none'),"
        f" count(*) filter (where outcome {ANSWERED})::float"
        f" / count(*) {LIVE}"
        f" and (outcome {ANSWERED} or outcome in ('unknown', 'expired', 'missing', 'unconfirmed'))"
        " group by 1, 2",
    ),
    "Outcomes in an hour": (("outcome",), f"select outcome, count(*) {LIVE} group by 1"),
    "By channel": (
        ("channel",),
        RATE_OF.format(ANSWERED).replace("select ", "select coalesce(channel, 'none'), ")
        + f" and outcome {ANSWERED} group by 1",
    ),
    "By country": (
        ("country",),
        RATE_OF.format(ANSWERED).replace("select ", "select coalesce(country, 'none'), ")
        + f" and outcome {ANSWERED} group by 1",
    ),
}
# Panels that show the ten first of more.
SOME = {
    "Failures now, by code",
    "Messages now, by sender",
    "Receipt coverage by network",
    "Cost per delivered message, in a day",
    "By country",
}
