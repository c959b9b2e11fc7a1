"""Prints sendtrace.json: what a messaging team looks at on the first day. For Grafana from 11.6 on.

Every figure rests on deploy/prometheus/rules.yml. Panels that say "now" count messages as they
stand, and equal `select count(*)` over the warehouse. ``make dashboard`` writes the file.
"""

from __future__ import annotations

import sys

from grafana_foundation_sdk.builders import bargauge, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

Panel = bargauge.Panel | stat.Panel | timeseries.Panel
Query = tuple[str, str]  # PromQL, and its legend

SOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
VARIABLES = ("account", "api", "channel", "country")
WHOSE = 'account=~"$account", api=~"$api", channel=~"$channel"'
WHERE = f'{WHOSE}, country=~"$country"'
LIVE = 'traffic="live"'
PERCENT, SECONDS, COUNT, EACH_SECOND = "percentunit", "s", "short", "reqps"
HEIGHT = 7


def delivery(which: str, by: str = "") -> str:
    """Delivered of ``answered`` or of ``accepted``, within an hour."""
    by = f" by ({by})" if by else ""
    return (
        f"sum{by} (sendtrace:delivered:delta1h{{{WHERE}}})"
        f" / (sum{by} (sendtrace:{which}:delta1h{{{WHERE}}}) > 0)"
    )


def quantile(which: float, stage: str) -> str:
    buckets = f'sendtrace:latency_seconds_bucket:rate5m{{{WHOSE}, stage=~"{stage}"}}'
    return f"histogram_quantile({which}, sum by (stage, le) ({buckets})) >= 0"


def messages(selection: str) -> str:
    """How many messages stand so now; 0, and not nothing, while there are figures at all."""
    every = f"sendtrace:messages{{{WHERE}, {LIVE}}}"
    chosen = f"sendtrace:messages{{{WHERE}, {LIVE}, {selection}}}"
    return f"sum ({chosen}) or 0 * sum ({every})"


def flagged(flag: str) -> str:
    chosen = f'sendtrace:flagged{{{WHOSE}, {LIVE}, flag="{flag}"}}'
    return f"sum ({chosen}) or 0 * sum (sendtrace:messages{{{WHOSE}, {LIVE}}})"


def _targets(panel: Panel, queries: tuple[Query, ...], *, instant: bool) -> None:
    for number, (expression, legend) in enumerate(queries):
        query = prometheus.Dataquery().expr(expression).legend_format(legend or "__auto")
        query = query.ref_id(chr(ord("A") + number))
        panel.with_target(query.instant() if instant else query.range())


def _framed(panel: Panel, title: str, words: str, unit: str, width: int, height: int) -> None:
    panel.title(title).description(words).unit(unit).datasource(SOURCE)
    panel.span(width).height(height)


def number(title: str, words: str, unit: str, *queries: Query, width: int = 4) -> Panel:
    panel = stat.Panel().graph_mode(common.BigValueGraphMode.AREA)
    panel.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    _framed(panel, title, words, unit, width, 4)
    _targets(panel, queries, instant=False)
    return panel


def bars(title: str, words: str, unit: str, *queries: Query, width: int = 8) -> Panel:
    """What stands now, by a label."""
    panel = bargauge.Panel().orientation(common.VizOrientation.HORIZONTAL)
    panel.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    _framed(panel, title, words, unit, width, HEIGHT)
    _targets(panel, queries, instant=True)
    return panel


def lines(
    title: str, words: str, unit: str, *queries: Query, width: int = 8, stacked: bool = False
) -> Panel:
    panel = timeseries.Panel().fill_opacity(40 if stacked else 5).line_width(1)
    panel.show_points(common.VisibilityMode.NEVER)
    panel.legend(
        VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if stacked:
        panel.stacking(StackingConfig().mode(common.StackingMode.NORMAL))
    if unit == PERCENT:
        panel.min(0).max(1)
    _framed(panel, title, words, unit, width, HEIGHT)
    _targets(panel, queries, instant=False)
    return panel


AT_A_GLANCE = (
    number(
        "Delivered of answered",
        "Of the messages that got an answer within the hour. Expired ones got none.",
        PERCENT,
        (delivery("answered"), "delivered"),
    ),
    number(
        "Delivered of accepted",
        "Of all messages that were accepted within the hour, answered or not.",
        PERCENT,
        (delivery("accepted"), "delivered"),
    ),
    number(
        "Accepted in an hour",
        "Messages newly sent and accepted.",
        COUNT,
        (f"sum (sendtrace:accepted:delta1h{{{WHERE}}})", "accepted"),
    ),
    number(
        "Pending now",
        "Neither final nor overdue.",
        COUNT,
        (messages('outcome="pending"'), "pending"),
    ),
    number(
        "Missing now",
        "Nothing was ever heard of them, and the deadline is past: look at the webhook settings.",
        COUNT,
        (messages('outcome="missing"'), "missing"),
    ),
    number(
        "One in twenty takes longer",
        "From accepted to delivered, by Vonage's clock: 95th percentile of 5 minutes.",
        SECONDS,
        (quantile(0.95, "carrier"), "p95"),
    ),
)
DELIVERY = (
    lines(
        "Both delivery rates",
        "They part where carriers say nothing.",
        PERCENT,
        (delivery("answered"), "of answered"),
        (delivery("accepted"), "of accepted"),
    ),
    lines(
        "By channel",
        "Delivered of answered.",
        PERCENT,
        (delivery("answered", "channel"), "{{channel}}"),
    ),
    lines(
        "By country",
        "Delivered of answered, the ten countries with the most messages.",
        PERCENT,
        (
            f"{delivery('answered', 'country')}"
            f" and topk (10, sum by (country) (sendtrace:answered:delta1h{{{WHERE}}}))",
            "{{country}}",
        ),
    ),
    lines(
        "Outcomes in an hour",
        "What messages became, less what they ceased to be: pending falls while it is worked off.",
        COUNT,
        (f"sum by (outcome) (sendtrace:messages:delta1h{{{WHERE}, {LIVE}}})", "{{outcome}}"),
        width=16,
    ),
    bars(
        "Messages now, by outcome",
        "All that is known, since the beginning.",
        COUNT,
        (f"sum by (outcome) (sendtrace:messages{{{WHERE}, {LIVE}}})", "{{outcome}}"),
    ),
    bars(
        "Sends now, by answer",
        "What Vonage said at once. Throttled ones went nowhere.",
        COUNT,
        (f"sum by (answer) (sendtrace:sends{{{WHOSE}, {LIVE}}})", "{{answer}}"),
    ),
    bars(
        "Whole sends now, by outcome",
        "Sends of several parts, and failover workflows.",
        COUNT,
        (
            f"sum by (kind, outcome) (sendtrace:rollups{{{WHOSE}, {LIVE}}})",
            "{{kind}} {{outcome}}",
        ),
    ),
    lines(
        "Whole sends delivered",
        "Of those that got an answer within the hour.",
        PERCENT,
        (
            f"sendtrace:rollup_delivery_of_answered:ratio1h{{{WHOSE}}}",
            "{{account}} {{channel}} {{kind}}",
        ),
    ),
    lines(
        "Throttled",
        "Of what was sent within the hour.",
        PERCENT,
        (f"sendtrace:throttled:ratio1h{{{WHOSE}}}", "{{account}} {{api}} {{channel}}"),
        width=12,
    ),
    bars(
        "Messages now, by channel",
        "",
        COUNT,
        (f"sum by (channel) (sendtrace:messages{{{WHERE}, {LIVE}}})", "{{channel}}"),
        width=12,
    ),
)
FAILURES = (
    bars(
        "Failures now, by category",
        "no_confirmation: the carrier said nothing within 72 hours.",
        COUNT,
        (f"sum by (category) (sendtrace:codes{{{WHOSE}, {LIVE}}})", "{{category}}"),
    ),
    bars(
        "Failures now, by code",
        "The ten most frequent. 9, 1240, 1050: STOP or barred; 3, 1190: dead numbers.",
        COUNT,
        (
            f"topk (10, sum by (code, outcome) (sendtrace:codes{{{WHOSE}, {LIVE}}}))",
            "{{code}} {{outcome}}",
        ),
    ),
    lines(
        "Failures in an hour, by category",
        "",
        COUNT,
        (f"sum by (category) (sendtrace:codes:delta1h{{{WHOSE}, {LIVE}}})", "{{category}}"),
        stacked=True,
    ),
    number(
        "Sends without an event",
        "No webhook ten minutes after the send, and none since.",
        COUNT,
        (flagged("no_first_event"), "sends"),
    ),
    number(
        "Events without a send",
        "Messages of which only webhooks are known. All of them, where no sends are recorded.",
        COUNT,
        (
            f"sum (sendtrace:messages_without_send{{{WHOSE}, {LIVE}}})"
            f" or 0 * sum (sendtrace:messages{{{WHOSE}, {LIVE}}})",
            "messages",
        ),
    ),
    number(
        "Late", "The final word came after the deadline.", COUNT, (flagged("late"), "messages")
    ),
    number(
        "Contradicting",
        "Delivered, and failed as well: Vonage said both.",
        COUNT,
        (flagged("contradiction"), "messages"),
    ),
    bars(
        "Codes and statuses never seen before",
        "The catalogue does not have them.",
        COUNT,
        (
            'sum by (code, status) (sendtrace:unknown_codes{api=~"$api"})',
            "{{code}} {{status}}",
        ),
    ),
    bars(
        "Flags now", "docs/rules.md says what each means.", COUNT,
        (f"sum by (flag) (sendtrace:flagged{{{WHOSE}, {LIVE}}})", "{{flag}}"),
        width=24,
    ),
)  # fmt: skip
LATENCY = (
    lines(
        "From accepted to delivered",
        "Both by Vonage's clock, good to a second; long messages without times of parts are out.",
        SECONDS,
        (quantile(0.5, "carrier"), "half"),
        (quantile(0.95, "carrier"), "p95"),
        (quantile(0.99, "carrier"), "p99"),
    ),
    lines(
        "One in twenty takes longer, by stage",
        "carrier and read: Vonage's clock; accept: ours; deliver, callback, ingest_lag: both.",
        SECONDS,
        (quantile(0.95, ".+"), "{{stage}}"),
    ),
    lines(
        "By channel, from accepted to delivered",
        "95th percentile.",
        SECONDS,
        (
            "histogram_quantile(0.95, sum by (channel, le) ("
            f'sendtrace:latency_seconds_bucket:rate5m{{{WHOSE}, stage="carrier"}})) >= 0',
            "{{channel}}",
        ),
    ),
)
COST = (
    bars(
        "Cost now, by currency",
        "Each message costs once. Estimates stand until an event has told the price.",
        COUNT,
        (f"sum by (currency) (sendtrace:cost{{{WHERE}, {LIVE}}})", "{{currency}}"),
        width=6,
    ),
    lines(
        "Cost in a day, by channel",
        "",
        COUNT,
        (
            f"sum by (channel, currency) (sendtrace:cost:delta1d{{{WHERE}, {LIVE}}})",
            "{{channel}} {{currency}}",
        ),
        width=6,
    ),
    lines(
        "Cost per delivered message, in a day",
        "Of the ten dearest countries.",
        COUNT,
        (
            f"topk (10, sendtrace:cost_per_delivered:ratio1d{{{WHERE}}})",
            "{{channel}} {{country}} {{currency}}",
        ),
        width=6,
    ),
    bars(
        "Estimate against event",
        "The answer's price and the event's, of messages that have both.",
        COUNT,
        (
            f"sum by (cost_source, currency) (sendtrace:cost_compared{{{WHOSE}, {LIVE}}})",
            "{{cost_source}} {{currency}}",
        ),
        width=6,
    ),
    bars(
        "Segments per send",
        "One emoji makes a text unicode, and doubles the bill.",
        COUNT,
        (
            f"sum by (api) (sendtrace:segments{{{WHOSE}, {LIVE}}})"
            f" / (sum by (api) (sendtrace:segmented_sends{{{WHOSE}, {LIVE}}}) > 0)",
            "{{api}}",
        ),
    ),
    bars(
        "Messages now, by sender",
        "The ten busiest.",
        COUNT,
        (
            "topk (10, sum by (sender)"
            f' (sendtrace:sender_messages{{channel=~"$channel", {LIVE}}}))',
            "{{sender}}",
        ),
    ),
    bars(
        "Receipt coverage by network",
        "How much each network told the end of, of what ended within a day; the ten busiest.",
        PERCENT,
        (
            'sendtrace:receipt_coverage:ratio1d{channel=~"$channel"}'
            ' and topk (10, sendtrace:ended:delta1d{channel=~"$channel"})',
            "{{network}} {{channel}}",
        ),
    ),
)
PIPELINE = (
    lines(
        "Webhooks, by answer",
        "docs/edge.md says what each answer means.",
        EACH_SECOND,
        ('sum by (answer, status) (sendtrace:edge_answers:rate5m{route="webhooks"})',
         "{{status}} {{answer}}"),
    ),
    lines(
        "Time since the last verified webhook",
        "By account and kind. Nothing while nobody is verified.",
        SECONDS,
        (
            "time() - max by (account, api)"
            ' (sendtrace_edge_last_verified_timestamp_seconds{account=~"$account"})',
            "{{account}} {{api}}",
        ),
    ),
    lines(
        "Records not yet read", "Figures and rows are so far behind.", COUNT,
        ("sendtrace:lag_records", "{{job}}"),
    ),
    lines(
        "Events, by what they brought",
        "Repeats are normal: Vonage retries.",
        EACH_SECOND,
        ("sum by (input, result) (sendtrace:events:rate5m)", "{{input}} {{result}}"),
    ),
    lines(
        "Acknowledged by Kafka within",
        "Of the edge's batches, 99th percentile.",
        SECONDS,
        (
            "histogram_quantile(0.99,"
            " sum by (le) (rate(sendtrace_edge_ack_seconds_bucket[5m]))) >= 0",
            "p99",
        ),
    ),
    lines(
        "Rows written to the warehouse",
        "",
        EACH_SECOND,
        ("sum (rate(sendtrace_loader_rows_total[5m]))", "rows"),
    ),
    lines(
        "Age of the exporters' figures",
        "Since totals was polled, and since Kafka last said where it ends.",
        SECONDS,
        ("max (sendtrace_exporter_seconds_since_poll)", "poll"),
        ("max (sendtrace_exporter_seconds_since_answer)", "answer"),
    ),
    number(
        "Keys of totals", "Label sets times partitions: what exporters hold.", COUNT,
        ("max (sendtrace_exporter_keys)", "keys"),
        width=8,
    ),
    number(
        "Processes up", "", COUNT, ('sum by (job) (up{job=~"sendtrace-.+"})', "{{job}}"), width=8
    ),
    bars(
        "Gaps gone on from, by topic",
        "Positions whose records were deleted, remade or cut before they were read, ever.",
        COUNT,
        ("sum by (input) (sendtrace:gaps)", "{{input}}"),
        width=12,
    ),
    bars(
        "Offsets lost in gaps, by topic",
        "What nobody read of logs that are there. Of a topic that is gone it is not known.",
        COUNT,
        ("sum by (input) (sendtrace:gap_records)", "{{input}}"),
        width=12,
    ),
)  # fmt: skip
ROWS = (
    ("At a glance", AT_A_GLANCE),
    ("Delivery", DELIVERY),
    ("Failures, and what is odd", FAILURES),
    ("Latency", LATENCY),
    ("Cost, senders and networks", COST),
    ("The pipeline itself", PIPELINE),
)


def _variable(name: str) -> dashboard.QueryVariable:
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    return (
        dashboard.QueryVariable(name)
        .label(name)
        .query(f"label_values(sendtrace:messages, {name})")
        .datasource(SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def build() -> dashboard.Dashboard:
    built = (
        dashboard.Dashboard("sendtrace")
        .uid("sendtrace")
        .description("What became of every message sent through Vonage")
        .tags(["sendtrace", "vonage"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone(common.TimeZoneBrowser)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Source").type("prometheus")
        )
    )
    for name in VARIABLES:
        built.with_variable(_variable(name))
    for title, panels in ROWS:
        built.with_row(dashboard.Row(title))
        for panel in panels:
            built.with_panel(panel)
    return built


def rendered() -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(build().build()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(rendered())
