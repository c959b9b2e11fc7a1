-- A phone has 256 marks for its long texts, and some use one again within the day: a part that came
-- before is the next text's. So no text has a part twice.

create or replace view inbound_messages as
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
), apart as (
    select *,
        row_number() over (
            partition by account, sender, recipient, concat_ref, concat_total, number, part
            order by arrived_at, message_id
        ) as turn
    from grouped
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
from apart
group by account, sender, recipient, concat_ref, concat_total, number, turn;
