-- The questions that a messaging team asks on its first day. Test traffic stays out of all but
-- spend, Vonage's own figures and balances: it may cost money too.

create view live_messages as
select message_id, send_id, api, channel, account, sender, recipient, country,
    coalesce(network_final, network_estimated) as network, client_ref,
    coalesce(sent_at, first_event_at) as started_at,
    outcome, is_open, outcome_at, receipt_expected, first_event_at, delivered_at,
    outcome not in ('refused', 'unanswered', 'untracked') as is_accepted,
    outcome in ('read', 'delivered', 'rejected', 'failed', 'undeliverable') as is_answered,
    outcome in ('read', 'delivered') as is_delivered,
    case when not 'aggregated' = any (flags) then carrier_latency_ms end as carrier_latency_ms,
    code,
    case
        when outcome = 'refused' and api = 'messages' then 'problem'
        when outcome = 'refused' then 'sms_send'
        when api = 'messages' then 'messages'
        else 'dlr'
    end as code_family,
    category, cost, currency, cost_source, estimate
from messages
where traffic = 'live' and direction = 'outbound';

comment on view live_messages is 'What every rate is made of: messages that are no test, with what is asked of each in plain words';
comment on column live_messages.message_id is 'Message id';
comment on column live_messages.send_id is 'The API call that asked for it. Null: no send record';
comment on column live_messages.api is 'As in messages';
comment on column live_messages.channel is 'As in messages';
comment on column live_messages.account is 'Vonage account (api key)';
comment on column live_messages.sender is 'From: number or name';
comment on column live_messages.recipient is 'To: number or user id';
comment on column live_messages.country is 'Country of the recipient''s number';
comment on column live_messages.network is 'Network that an event told, else the one that the answer guessed';
comment on column live_messages.client_ref is 'The reference the sender gave';
comment on column live_messages.started_at is 'When the send was asked for; without a send record when its first event came';
comment on column live_messages.outcome is 'As in messages';
comment on column live_messages.is_open is 'Something may still come, in time';
comment on column live_messages.outcome_at is 'When the outcome came about';
comment on column live_messages.receipt_expected is 'Whether a receipt was asked for. Null: no send record';
comment on column live_messages.first_event_at is 'When the first event about it reached us';
comment on column live_messages.delivered_at is 'When it was delivered';
comment on column live_messages.is_accepted is 'Vonage took it, and tells us what becomes of it: not refused, unanswered or untracked';
comment on column live_messages.is_answered is 'A carrier or channel said yes or no';
comment on column live_messages.is_delivered is 'Delivered or read';
comment on column live_messages.carrier_latency_ms is 'From accepted or submitted to delivered; null where Vonage''s waiting for segments is in it';
comment on column live_messages.code is 'Error code of the outcome';
comment on column live_messages.code_family is 'Which table of codes it is of: family in error_codes';
comment on column live_messages.category is 'What kind of failure the code is';
comment on column live_messages.cost is 'Cost in units of currency';
comment on column live_messages.currency is 'ISO 4217 code of cost and estimate';
comment on column live_messages.cost_source is 'event or estimate';
comment on column live_messages.estimate is 'The price that the send''s answer told';

create view delivery_by_cohort as
select date_trunc('hour', started_at, 'UTC') as send_hour, account, api, channel,
    count(*) as messages,
    count(*) filter (where is_accepted) as accepted,
    count(*) filter (where is_answered) as answered,
    count(*) filter (where is_delivered) as delivered,
    count(*) filter (where is_open) as open,
    round(count(*) filter (where is_delivered) / nullif(count(*) filter (where is_answered), 0)::numeric, 4)
        as delivered_of_answered,
    round(count(*) filter (where is_delivered) / nullif(count(*) filter (where is_accepted), 0)::numeric, 4)
        as delivered_of_accepted,
    round(percentile_cont(0.5) within group (order by carrier_latency_ms))::bigint as carrier_latency_p50_ms,
    round(percentile_cont(0.95) within group (order by carrier_latency_ms))::bigint as carrier_latency_p95_ms,
    round(percentile_cont(0.99) within group (order by carrier_latency_ms))::bigint as carrier_latency_p99_ms
from live_messages
group by 1, 2, 3, 4;

comment on view delivery_by_cohort is 'What became of the messages that were sent in an hour. By the hour of sending, since rates by the hour of delivery lie when traffic changes; young hours are still open';
comment on column delivery_by_cohort.send_hour is 'The hour in which they were sent (UTC)';
comment on column delivery_by_cohort.account is 'Vonage account (api key)';
comment on column delivery_by_cohort.api is 'As in messages';
comment on column delivery_by_cohort.channel is 'As in messages';
comment on column delivery_by_cohort.messages is 'All messages';
comment on column delivery_by_cohort.accepted is 'Vonage took them, and tells us what becomes of them';
comment on column delivery_by_cohort.answered is 'A carrier or channel said yes or no';
comment on column delivery_by_cohort.delivered is 'Delivered or read';
comment on column delivery_by_cohort.open is 'Something may still come: both rates may still rise';
comment on column delivery_by_cohort.delivered_of_answered is 'Delivery rate of those that got an answer, 0 to 1';
comment on column delivery_by_cohort.delivered_of_accepted is 'Delivery rate of all accepted, 0 to 1: silence counts against it';
comment on column delivery_by_cohort.carrier_latency_p50_ms is 'Half were faster: accepted or submitted to delivered, by Vonage''s clock';
comment on column delivery_by_cohort.carrier_latency_p95_ms is '95 of 100 were faster';
comment on column delivery_by_cohort.carrier_latency_p99_ms is '99 of 100 were faster';

create view delivery_by_sender_and_network as
select date_trunc('day', started_at, 'UTC') as send_day, account, channel, sender, country, network,
    count(*) filter (where is_accepted) as accepted,
    count(*) filter (where is_answered) as answered,
    count(*) filter (where is_delivered) as delivered,
    round(count(*) filter (where is_delivered) / nullif(count(*) filter (where is_answered), 0)::numeric, 4)
        as delivered_of_answered,
    round(count(*) filter (where is_delivered) / nullif(count(*) filter (where is_accepted), 0)::numeric, 4)
        as delivered_of_accepted,
    mode() within group (order by code) filter (where is_answered and not is_delivered) as commonest_code
from live_messages
group by 1, 2, 3, 4, 5, 6;

comment on view delivery_by_sender_and_network is 'Which sender does badly on which network';
comment on column delivery_by_sender_and_network.send_day is 'The day on which they were sent (UTC)';
comment on column delivery_by_sender_and_network.account is 'Vonage account (api key)';
comment on column delivery_by_sender_and_network.channel is 'As in messages';
comment on column delivery_by_sender_and_network.sender is 'From: number or name';
comment on column delivery_by_sender_and_network.country is 'Country of the recipients';
comment on column delivery_by_sender_and_network.network is 'Network of the recipients; null: not known';
comment on column delivery_by_sender_and_network.accepted is 'Vonage took them, and tells us what becomes of them';
comment on column delivery_by_sender_and_network.answered is 'A carrier or channel said yes or no';
comment on column delivery_by_sender_and_network.delivered is 'Delivered or read';
comment on column delivery_by_sender_and_network.delivered_of_answered is 'Delivery rate of those that got an answer, 0 to 1';
comment on column delivery_by_sender_and_network.delivered_of_accepted is 'Delivery rate of all accepted, 0 to 1';
comment on column delivery_by_sender_and_network.commonest_code is 'The code that most of the failed have';

create view spend_by_day_and_country as
select date_trunc('day', coalesce(sent_at, first_event_at), 'UTC') as day, direction, traffic,
    account, channel, country, currency,
    count(*) as messages, sum(segments) as segments, sum(cost) as cost,
    coalesce(sum(cost) filter (where cost_source = 'estimate'), 0) as of_it_estimated
from messages
where cost is not null
group by 1, 2, 3, 4, 5, 6, 7
union all
select date_trunc('day', arrived_at, 'UTC'), 'inbound', traffic, account, channel, country, currency,
    count(*), sum(segments), sum(cost), 0
from inbound
where cost is not null
group by 1, 3, 4, 5, 6, 7;

comment on view spend_by_day_and_country is 'What messages cost, sent and received. Test traffic is in it, marked: it may cost money too';
comment on column spend_by_day_and_country.day is 'The day on which they were sent or came in (UTC)';
comment on column spend_by_day_and_country.direction is 'outbound or inbound';
comment on column spend_by_day_and_country.traffic is 'live or test';
comment on column spend_by_day_and_country.account is 'Vonage account (api key)';
comment on column spend_by_day_and_country.channel is 'As in messages';
comment on column spend_by_day_and_country.country is 'Country of the recipient (outbound) or the sender (inbound)';
comment on column spend_by_day_and_country.currency is 'ISO 4217 code of the sums';
comment on column spend_by_day_and_country.messages is 'Messages with a known cost';
comment on column spend_by_day_and_country.segments is 'SMS segments of them, where told';
comment on column spend_by_day_and_country.cost is 'Sum of their costs';
comment on column spend_by_day_and_country.of_it_estimated is 'What of cost is only the estimate of the send''s answer';

create view retryable as
select m.message_id, m.send_id, m.account, m.api, m.channel, m.sender, m.recipient, m.client_ref,
    m.started_at, m.outcome, m.outcome_at, m.code, e.name as code_name, e.category, e.actor, e.explanation
from live_messages as m
join lateral (
    select * from error_codes as e
    where e.family = m.code_family and e.code = m.code
    order by e.version desc limit 1  -- two versions of one code agree on what is temporary
) as e on true
where m.outcome in ('rejected', 'failed', 'undeliverable', 'refused') and e.lasting = 'temporary';

comment on view retryable is 'Messages that failed for a passing reason: sending the same again may go through. Not what is open, delivered, expired or unanswered: that may have arrived';
comment on column retryable.message_id is 'Message id';
comment on column retryable.send_id is 'The API call that asked for it. Null: no send record';
comment on column retryable.account is 'Vonage account (api key)';
comment on column retryable.api is 'As in messages';
comment on column retryable.channel is 'As in messages';
comment on column retryable.sender is 'From: number or name';
comment on column retryable.recipient is 'To: number or user id';
comment on column retryable.client_ref is 'The reference the sender gave';
comment on column retryable.started_at is 'When it was sent';
comment on column retryable.outcome is 'rejected, failed, undeliverable or refused';
comment on column retryable.outcome_at is 'When the outcome came about';
comment on column retryable.code is 'Error code';
comment on column retryable.code_name is 'What the code is called';
comment on column retryable.category is 'What kind of failure it is';
comment on column retryable.actor is 'Who can act';
comment on column retryable.explanation is 'What the code means';

create view workflow_results as
select r.id, r.kind, coalesce(r.send_id, s.send_id) as send_id, r.account, s.sender, s.recipient,
    s.client_ref, coalesce(r.sent_at, s.sent_at) as sent_at, r.outcome, r.is_open, r.outcome_at,
    r.known, r.expected, r.delivered, r.decided_by, d.channel as decided_channel,
    d.workflow_item as decided_item, r.last_delivered_at, r.slowest_carrier_latency_ms, r.cost, r.currency
from rollups as r
left join lateral (
    (select * from messages as m where r.kind = 'failover' and m.workflow_id = r.id
     order by m.send_id is null, m.workflow_item, m.message_id limit 1)
    union all
    (select * from messages as m where r.kind = 'parts' and m.send_id = r.id and m.parts > 1
     order by m.part, m.message_id limit 1)
) as s on true
left join messages as d on d.message_id = r.decided_by
where r.traffic = 'live';

comment on view workflow_results is 'What became of each send of several messages: the parts of a long text, or the items of a failover workflow, with what the send said';
comment on column workflow_results.id is 'Id of the failover workflow, else the send id';
comment on column workflow_results.kind is 'parts or failover';
comment on column workflow_results.send_id is 'The API call. Null: no send record was captured';
comment on column workflow_results.account is 'Vonage account (api key)';
comment on column workflow_results.sender is 'From, of the message that was asked for';
comment on column workflow_results.recipient is 'To, of the message that was asked for';
comment on column workflow_results.client_ref is 'The reference the sender gave';
comment on column workflow_results.sent_at is 'When the send was asked for';
comment on column workflow_results.outcome is 'As in rollups';
comment on column workflow_results.is_open is 'Something may still come, in time';
comment on column workflow_results.outcome_at is 'When the outcome came about';
comment on column workflow_results.known is 'How many of its messages were seen';
comment on column workflow_results.expected is 'How many parts there are; null for a workflow';
comment on column workflow_results.delivered is 'How many of its messages were delivered or read';
comment on column workflow_results.decided_by is 'The message whose outcome it is. Null: several together';
comment on column workflow_results.decided_channel is 'Channel of that message';
comment on column workflow_results.decided_item is 'Which item of the workflow that is; above 1 the failover was needed';
comment on column workflow_results.last_delivered_at is 'When the last of its messages was delivered';
comment on column workflow_results.slowest_carrier_latency_ms is 'The longest latency among its messages';
comment on column workflow_results.cost is 'Sum of its messages'' costs';
comment on column workflow_results.currency is 'ISO 4217 code of cost';

create view receipt_coverage as
select date_trunc('day', started_at, 'UTC') as send_day, account, channel, country, network,
    count(*) as messages,
    count(*) filter (where first_event_at is not null) as with_any_event,
    count(*) filter (where is_answered) as with_an_answer,
    count(*) filter (where outcome = 'expired') as expired,
    count(*) filter (where outcome = 'unconfirmed') as unconfirmed,
    count(*) filter (where outcome = 'missing') as missing,
    round(count(*) filter (where is_answered) / count(*)::numeric, 4) as coverage
from live_messages
where is_accepted and not is_open and receipt_expected is not false
group by 1, 2, 3, 4, 5;

comment on view receipt_coverage is 'Which networks tell what became of a message: of those that are no longer open and asked for a receipt';
comment on column receipt_coverage.send_day is 'The day on which they were sent (UTC)';
comment on column receipt_coverage.account is 'Vonage account (api key)';
comment on column receipt_coverage.channel is 'As in messages';
comment on column receipt_coverage.country is 'Country of the recipients';
comment on column receipt_coverage.network is 'Network of the recipients; null: not known';
comment on column receipt_coverage.messages is 'Messages that asked for a receipt and are no longer open';
comment on column receipt_coverage.with_any_event is 'Something was heard of them';
comment on column receipt_coverage.with_an_answer is 'A carrier or channel said yes or no';
comment on column receipt_coverage.expired is 'Vonage gave up waiting for the carrier';
comment on column receipt_coverage.unconfirmed is 'The carrier''s silence: only intermediate events came';
comment on column receipt_coverage.missing is 'Nothing came: our webhook setting is wrong, or callbacks are lost';
comment on column receipt_coverage.coverage is 'with_an_answer of messages, 0 to 1';

create view vonage_report_by_hour as
select date_trunc('hour', coalesce(sent_at, first_event_at), 'UTC') as hour, account, api, channel,
    direction, traffic, country, coalesce(network_final, network_estimated) as network, status_last, outcome,
    count(*) as messages, sum(segments) as segments, sum(cost) as cost, currency
from messages
where outcome not in ('refused', 'unanswered')
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, currency
union all
select date_trunc('hour', arrived_at, 'UTC'), account, api, channel, 'inbound', traffic, country, network,
    null, null, count(*), sum(segments), sum(cost), currency
from inbound
group by 1, 2, 3, 4, 6, 7, 8, currency;

comment on view vonage_report_by_hour is 'Sums to hold against Vonage''s Reports API, whose records have the same fields. Vonage counts by its own clock: a message near the hour may be in the next one';
comment on column vonage_report_by_hour.hour is 'The hour (UTC) of sending or arrival: date_received in Vonage''s reports';
comment on column vonage_report_by_hour.account is 'Vonage account (api key): account_id';
comment on column vonage_report_by_hour.api is 'As in messages: product';
comment on column vonage_report_by_hour.channel is 'As in messages';
comment on column vonage_report_by_hour.direction is 'outbound or inbound';
comment on column vonage_report_by_hour.traffic is 'live or test; what went to the sandbox is in no report';
comment on column vonage_report_by_hour.country is 'Country of the other party''s number';
comment on column vonage_report_by_hour.network is 'Network of the other party';
comment on column vonage_report_by_hour.status_last is 'Vonage''s own word for what became of it: status';
comment on column vonage_report_by_hour.outcome is 'Ours';
comment on column vonage_report_by_hour.messages is 'Messages; a part of a long text is one in the SMS API';
comment on column vonage_report_by_hour.segments is 'SMS segments, where told';
comment on column vonage_report_by_hour.cost is 'Sum of costs: total_price';
comment on column vonage_report_by_hour.currency is 'ISO 4217 code of cost';

create view unanswered_candidates as
with pairs as (
    select u.message_id as unanswered_id, c.message_id as candidate_id, u.account, u.recipient,
        u.client_ref, u.sent_at, c.first_event_at, c.outcome as candidate_outcome,
        count(*) over (partition by u.message_id) as candidates,
        count(*) over (partition by c.message_id) as claims
    from messages as u
    join messages as c
        on c.recipient = u.recipient and c.account = u.account and c.client_ref = u.client_ref
        and c.send_id is null and c.traffic = u.traffic
        and c.first_event_at between u.sent_at - interval '10 minutes' and u.sent_at + interval '10 minutes'
    where u.outcome = 'unanswered' and u.traffic = 'live'
)
select unanswered_id, candidate_id, true as is_guess, account, recipient, client_ref, sent_at,
    first_event_at, candidate_outcome
from pairs
where candidates = 1 and claims = 1;

comment on view unanswered_candidates is 'A GUESS: sends that got no answer, and the only message with their account, recipient and reference that was heard of within 10 minutes and has no send. It may be that message; nothing proves it';
comment on column unanswered_candidates.unanswered_id is 'Our id of the message that got no answer';
comment on column unanswered_candidates.candidate_id is 'Vonage''s id of the message that it may have become';
comment on column unanswered_candidates.is_guess is 'Always true';
comment on column unanswered_candidates.account is 'Account that both have';
comment on column unanswered_candidates.recipient is 'Recipient that both have';
comment on column unanswered_candidates.client_ref is 'Reference that both have';
comment on column unanswered_candidates.sent_at is 'When the send was asked for';
comment on column unanswered_candidates.first_event_at is 'When the candidate was first heard of';
comment on column unanswered_candidates.candidate_outcome is 'What became of the candidate';

create view open_messages_by_age as
select account, channel, age, count(*) as messages, min(started_at) as oldest_started_at
from (
    select account, channel, started_at,
        case
            when now() - started_at < interval '10 minutes' then 'under 10 minutes'
            when now() - started_at < interval '1 hour' then 'under 1 hour'
            when now() - started_at < interval '24 hours' then 'under 24 hours'
            when now() - started_at < interval '72 hours' then 'under 72 hours'
            else '72 hours and more'
        end as age
    from live_messages where is_open
) as aged
group by account, channel, age;

comment on view open_messages_by_age is 'Messages of which something may still come, by how long ago they were sent';
comment on column open_messages_by_age.account is 'Vonage account (api key)';
comment on column open_messages_by_age.channel is 'As in messages';
comment on column open_messages_by_age.age is 'under 10 minutes, under 1 hour, under 24 hours, under 72 hours, 72 hours and more; each without the ones before';
comment on column open_messages_by_age.messages is 'How many';
comment on column open_messages_by_age.oldest_started_at is 'When the oldest of them was sent';

create view latest_balance as
select distinct on (account) account, balance, sent_at as as_of
from messages
where balance is not null
order by account, sent_at desc nulls last, part desc;

comment on view latest_balance is 'What each account had left after its latest send (the SMS API alone tells)';
comment on column latest_balance.account is 'Vonage account (api key)';
comment on column latest_balance.balance is 'Balance in the account''s currency';
comment on column latest_balance.as_of is 'When the send was asked for that told it';

create view inbound_messages as
with marked as (
    select *,
        concat_ref is null or lag(arrived_at) over same is null
            or arrived_at - lag(arrived_at) over same > interval '24 hours' as begins
    from inbound
    window same as (partition by account, sender, recipient, concat_ref, concat_total order by arrived_at, part, message_id)
), grouped as (
    select *,
        count(*) filter (where begins) over (
            partition by account, sender, recipient, concat_ref, concat_total
            order by arrived_at, part, message_id
        ) as number
    from marked
)
select (array_agg(message_id order by part, message_id))[1] as message_id,
    array_agg(message_id order by part, message_id) as message_ids,
    account, min(api) as api, min(channel) as channel, sender, recipient, min(country) as country, min(traffic) as traffic,
    min(arrived_at) as first_part_at, max(arrived_at) as last_part_at,
    count(distinct part) as parts_known, coalesce(concat_total, 1) as parts,
    count(distinct part) >= coalesce(concat_total, 1) as is_complete,
    (array_agg(message_type order by part, message_id))[1] as message_type,
    (array_agg(encoding order by part, message_id))[1] as encoding,
    (array_agg(keyword_class order by part, message_id))[1] as keyword_class,
    sum(text_length) as text_length,
    case when count(distinct part) >= coalesce(concat_total, 1) and count(text) = count(*)
        then string_agg(text, '' order by part, message_id) end as text,
    sum(cost) as cost, min(currency) as currency,
    (array_agg(reply_to order by part, message_id))[1] as reply_to
from grouped
group by account, sender, recipient, concat_ref, concat_total, number;

comment on view inbound_messages is 'What came in, put together from its parts: those with the same sender, recipient and mark that came within 24 hours of one another. Some carriers mark no parts: those stay apart';
comment on column inbound_messages.message_id is 'Message id of the first part that is known';
comment on column inbound_messages.message_ids is 'Message ids of all parts, in order';
comment on column inbound_messages.account is 'Vonage account (api key) by which it was verified';
comment on column inbound_messages.api is 'messages or sms';
comment on column inbound_messages.channel is 'As in inbound';
comment on column inbound_messages.sender is 'Who wrote';
comment on column inbound_messages.recipient is 'To: our number or name';
comment on column inbound_messages.country is 'Country of the sender''s number';
comment on column inbound_messages.traffic is 'live or test';
comment on column inbound_messages.first_part_at is 'When the first part reached us';
comment on column inbound_messages.last_part_at is 'When the last part reached us';
comment on column inbound_messages.parts_known is 'How many parts came';
comment on column inbound_messages.parts is 'How many parts there are';
comment on column inbound_messages.is_complete is 'All parts came';
comment on column inbound_messages.message_type is 'text, image, binary and the like';
comment on column inbound_messages.encoding is 'Encoding of the first part';
comment on column inbound_messages.keyword_class is 'STOP, HELP, other or none: of the first part';
comment on column inbound_messages.text_length is 'Characters of all known parts';
comment on column inbound_messages.text is 'The whole text. Null unless SENDTRACE_TEXT=keep and all parts came';
comment on column inbound_messages.cost is 'What receiving it cost, all parts';
comment on column inbound_messages.currency is 'ISO 4217 code of cost';
comment on column inbound_messages.reply_to is 'The message that it answers, where it says so';

create view stop_and_dead_numbers as
select told.number, told.reason, told.account, told.sender, max(told.at) as last_told_at,
    count(*) as times, max(told.code) as code,
    (select max(d.delivered_at) from messages as d
     where d.recipient = told.number and d.sender = told.sender) as last_delivered_at
from (
    select recipient as number, account, sender, code, coalesce(outcome_at, started_at) as at,
        case
            when (code_family, code) in (('dlr', '3'), ('messages', '1190')) then 'dead'
            else 'stop'
        end as reason
    from live_messages
    where not is_delivered and (code_family, code) in (
        ('dlr', '9'), ('messages', '1240'), ('messages', '1050'), ('dlr', '3'), ('messages', '1190')
    )
    union all
    select sender, account, recipient, null, arrived_at, 'stop'
    from inbound
    where traffic = 'live' and keyword_class = 'STOP'
) as told
group by told.number, told.reason, told.account, told.sender;

comment on view stop_and_dead_numbers is 'Numbers to take off the lists: whose owners said STOP (codes 9, 1240 and 1050, or a STOP that came in), and that are dead (3, 1190)';
comment on column stop_and_dead_numbers.number is 'The number';
comment on column stop_and_dead_numbers.reason is 'stop or dead';
comment on column stop_and_dead_numbers.account is 'Vonage account (api key)';
comment on column stop_and_dead_numbers.sender is 'Our sender that it was told about';
comment on column stop_and_dead_numbers.last_told_at is 'When it was last told';
comment on column stop_and_dead_numbers.times is 'How often it was told';
comment on column stop_and_dead_numbers.code is 'The code that told it. Null: a STOP that came in';
comment on column stop_and_dead_numbers.last_delivered_at is 'When that sender last reached the number: after last_told_at it is alive, or has opted in again';

create view cost_per_delivered as
select date_trunc('day', started_at, 'UTC') as send_day, account, channel, country, currency,
    sum(cost) as cost,
    count(*) filter (where is_delivered) as delivered,
    round(sum(cost) / nullif(count(*) filter (where is_delivered), 0), 8) as cost_per_delivered
from live_messages
where cost is not null and not is_open
group by 1, 2, 3, 4, 5;

comment on view cost_per_delivered is 'What a delivered message cost, those that failed paid for by those that arrived; of messages that are no longer open';
comment on column cost_per_delivered.send_day is 'The day on which they were sent (UTC)';
comment on column cost_per_delivered.account is 'Vonage account (api key)';
comment on column cost_per_delivered.channel is 'As in messages';
comment on column cost_per_delivered.country is 'Country of the recipients';
comment on column cost_per_delivered.currency is 'ISO 4217 code of the costs';
comment on column cost_per_delivered.cost is 'Sum of all costs';
comment on column cost_per_delivered.delivered is 'Delivered or read';
comment on column cost_per_delivered.cost_per_delivered is 'cost by delivered. Null: none was';

create view estimate_against_final as
select date_trunc('day', started_at, 'UTC') as send_day, account, channel, country, network, currency,
    count(*) as messages, sum(estimate) as estimate, sum(cost) as final, sum(cost) - sum(estimate) as difference
from live_messages
where cost_source = 'event' and estimate is not null
group by 1, 2, 3, 4, 5, 6;

comment on view estimate_against_final is 'What answers to sends promised, against what events told in the end; of messages that have both';
comment on column estimate_against_final.send_day is 'The day on which they were sent (UTC)';
comment on column estimate_against_final.account is 'Vonage account (api key)';
comment on column estimate_against_final.channel is 'As in messages';
comment on column estimate_against_final.country is 'Country of the recipients';
comment on column estimate_against_final.network is 'Network of the recipients';
comment on column estimate_against_final.currency is 'ISO 4217 code of the sums';
comment on column estimate_against_final.messages is 'Messages that have both prices';
comment on column estimate_against_final.estimate is 'Sum of the answers'' prices';
comment on column estimate_against_final.final is 'Sum of the events'' prices';
comment on column estimate_against_final.difference is 'final less estimate';

create view codes_first_seen as
select m.code_family, m.code, e.name as code_name, m.code is not null and e.code is null as is_unknown,
    min(coalesce(m.outcome_at, m.started_at)) as first_seen_at, max(coalesce(m.outcome_at, m.started_at)) as last_seen_at,
    count(*) as messages
from live_messages as m
left join (select family, code, min(name) as name from error_codes group by family, code) as e
    on e.family = m.code_family and e.code = m.code
where m.code is not null
group by 1, 2, 3, 4;

comment on view codes_first_seen is 'Every error code that messages ended with, and since when: a new one stands out by its first_seen_at, one that no document has by is_unknown';
comment on column codes_first_seen.code_family is 'Which table of codes it is of: family in error_codes';
comment on column codes_first_seen.code is 'The code';
comment on column codes_first_seen.code_name is 'What it is called. Null: the catalogue does not have it';
comment on column codes_first_seen.is_unknown is 'The catalogue does not have it';
comment on column codes_first_seen.first_seen_at is 'When the first message ended with it';
comment on column codes_first_seen.last_seen_at is 'When the last message ended with it';
comment on column codes_first_seen.messages is 'How many ended with it';

create view message_timeline as
select message_id, arrived_at as at, provider_at, kind, status, code, segment, network, price, currency,
    error_title, error_instance
from message_events
union all
select message_id, sent_at, null, 'send', coalesce(answer, 'asked for'), coalesce(answer_status, ''), '',
    network_estimated, estimate, currency, null, case when outcome = 'refused' then error_instance end
from messages
where send_id is not null;

comment on view message_timeline is 'All that is known of a message, its send included; order by at';
comment on column message_timeline.message_id is 'Message id';
comment on column message_timeline.at is 'When it reached us; of a send when it was asked for, of overdue the deadline';
comment on column message_timeline.provider_at is 'Vonage''s own time of it';
comment on column message_timeline.kind is 'send, or as in message_events';
comment on column message_timeline.status is 'Of a send Vonage''s answer, else as in message_events';
comment on column message_timeline.code is 'Error code; of a send the answer''s own status';
comment on column message_timeline.segment is 'As in message_events';
comment on column message_timeline.network is 'Network as it told; of a send as the answer guessed';
comment on column message_timeline.price is 'Price as it told';
comment on column message_timeline.currency is 'ISO 4217 code of price';
comment on column message_timeline.error_title is 'What Vonage calls the error';
comment on column message_timeline.error_instance is 'Vonage''s trace id of the error';
