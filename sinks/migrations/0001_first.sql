-- The first tables. Names and types stay (expand, then contract): a loader one version old works
-- on a newer schema.

create table messages (
    message_id text primary key,
    send_id text,
    part integer,
    parts integer,
    workflow_id text,
    api text,
    channel text,
    account text,
    sender text,
    recipient text,
    client_ref text,
    outcome text not null,
    is_final boolean not null,
    outcome_at timestamptz,
    sent_at timestamptz,
    submitted_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    carrier_latency_ms bigint,
    status_last text,
    code text,
    error_instance text,
    segments integer,
    network_estimated text,
    network_final text,
    cost numeric(18, 8),
    currency text,
    currency_source text,
    cost_source text,
    first_event_at timestamptz,
    last_event_at timestamptz,
    flags text[] not null default '{}',
    receipt_expected boolean,
    topic_epoch bigint not null,
    source_partition integer not null,
    source_offset bigint not null
)
-- A message is written some three times in its life: room in the page for its next version.
with (fillfactor = 80);

create index messages_recipient on messages (recipient);
create index messages_client_ref on messages (client_ref) where client_ref is not null;
create index messages_sent_at on messages (sent_at);

comment on table messages is
    'One row per message: the latest lifecycle of topic lifecycles. Times are UTC.';
comment on column messages.message_id is 'Message id as Vonage gave it';
comment on column messages.send_id is 'The API call that asked for it; shared by all its parts. Null: no send record was captured';
comment on column messages.part is 'Which part of its send this is, from 1. Null: no send record';
comment on column messages.parts is 'How many messages its send became. Null: no send record';
comment on column messages.workflow_id is 'Failover workflow of the Messages API, if it was sent by one';
comment on column messages.api is 'messages, sms, alerts or sms_or_alerts (a receipt alone does not tell the two apart)';
comment on column messages.channel is 'sms, mms, rcs, whatsapp, messenger, viber_service; as told by send or status';
comment on column messages.account is 'Vonage account (api key), from the send or a verified webhook';
comment on column messages.sender is 'From: number or name';
comment on column messages.recipient is 'To: number or user id';
comment on column messages.client_ref is 'The reference the sender gave, cut to 100 characters';
comment on column messages.outcome is 'read, delivered, rejected, failed, undeliverable, expired, revoked, refused, unanswered, unknown, unconfirmed, missing, pending or untracked';
comment on column messages.is_final is 'No later event is expected to change the outcome';
comment on column messages.outcome_at is 'When the outcome came about, by Vonage''s clock';
comment on column messages.sent_at is 'When the send was asked for, by our clock';
comment on column messages.submitted_at is 'When Vonage submitted it to the carrier or channel, by Vonage''s clock';
comment on column messages.delivered_at is 'When it was delivered, by Vonage''s clock';
comment on column messages.read_at is 'When it was read, by Vonage''s clock';
comment on column messages.carrier_latency_ms is 'From accepted or submitted to delivered, both by Vonage''s clock, in milliseconds';
comment on column messages.status_last is 'The latest status or receipt that Vonage told, in its own word';
comment on column messages.code is 'Error code of the outcome; null: none';
comment on column messages.error_instance is 'Vonage''s trace id of the error, to be quoted to its support';
comment on column messages.segments is 'SMS segments the message was billed as';
comment on column messages.network_estimated is 'Network (MCC and MNC) that the send''s answer guessed';
comment on column messages.network_final is 'Network (MCC and MNC) that an event told';
comment on column messages.cost is 'Cost in units of currency';
comment on column messages.currency is 'ISO 4217 code of cost';
comment on column messages.currency_source is 'field: told by Vonage; default: the configured default';
comment on column messages.cost_source is 'event: told by a status or receipt; estimate: by the send''s answer';
comment on column messages.first_event_at is 'When the first event about it reached us';
comment on column messages.last_event_at is 'When the latest event about it reached us';
comment on column messages.flags is 'What is unusual about it (contradicting outcomes, foreign facts and the like)';
comment on column messages.receipt_expected is 'Whether a receipt was asked for. Null: no send record';
comment on column messages.topic_epoch is 'Which incarnation of topic lifecycles the row is from; with source_offset the row''s version';
comment on column messages.source_partition is 'Partition of topic lifecycles the row is from';
comment on column messages.source_offset is 'Offset in that partition: a row is only replaced by a later one';

create table sink_offsets (
    topic text not null,
    partition integer not null,
    next bigint not null,
    topic_epoch bigint not null default 1,
    updated_at timestamptz not null default now(),
    primary key (topic, partition)
);

comment on table sink_offsets is
    'How far the loader is, moved in the transaction that writes the rows. The truth: Kafka''s group offsets are not used.';
comment on column sink_offsets.topic is 'Full topic name, with prefix';
comment on column sink_offsets.partition is 'Partition of the topic';
comment on column sink_offsets.next is 'The next offset to load; everything before it is in the tables';
comment on column sink_offsets.topic_epoch is 'Incarnation of the topic: raised when its offsets start anew (rebuild)';
comment on column sink_offsets.updated_at is 'When the offset last moved, by the database''s clock';

create table sink_source (
    topic text primary key,
    cluster_id text not null,
    topic_id text,
    recorded_at timestamptz not null default now()
);

comment on table sink_source is
    'Where the offsets belong to: on another cluster they mean nothing, and the loader stops.';
comment on column sink_source.topic is 'Full topic name, with prefix';
comment on column sink_source.cluster_id is 'Id of the Kafka cluster that was loaded from';
comment on column sink_source.topic_id is 'Id of the topic; null where the client does not tell it (aiokafka 0.14 does not)';
comment on column sink_source.recorded_at is 'When this was first recorded, by the database''s clock';
