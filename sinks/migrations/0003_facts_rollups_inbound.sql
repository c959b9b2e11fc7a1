-- The facts behind each message, what became of whole sends, and what came in. Expand only: a
-- loader that knows `messages` alone goes on working.

alter table messages add fragment boolean not null default false;
comment on column messages.fragment is 'It was forgotten (or never seen) before its first fact in this row: what came earlier is not known';

-- Parts and failover items are few: only they are in these. The last is for the retention of
-- messages without a send.
create index messages_workflow_id on messages (workflow_id) where workflow_id is not null;
create index messages_send_id on messages (send_id) where parts > 1;
create index messages_first_event_at on messages (first_event_at) where sent_at is null;

create table message_events (
    message_id text not null,
    kind text not null,
    status text not null,
    code text not null,
    segment text not null,
    account text not null,
    arrived_at timestamptz not null,
    provider_at timestamptz,
    api text,
    version text,
    channel text,
    network text,
    price numeric(18, 8),
    currency text,
    segments integer,
    error_title text,
    error_instance text,
    pricing_type text,
    pricing_model text,
    pricing_category text,
    after_refusal boolean not null default false,
    primary key (message_id, kind, status, code, segment, account)
);

comment on table message_events is
    'One row per fact of a message: what Vonage told about it, each thing once however often it came. They change with the message''s row in messages, and go with it. The send is no row here: it stands in messages.';
comment on column message_events.message_id is 'Message id; its row in messages says what follows from all its facts';
comment on column message_events.kind is 'status (Messages API), receipt (SMS and Alerts API), overdue (a deadline went by) or revoke_requested';
comment on column message_events.status is 'Vonage''s own word, in lower case; of overdue which deadline: no_first_event, no_send or final';
comment on column message_events.code is 'Error code; empty: none';
comment on column message_events.segment is 'Segment of a long SMS that it is about; empty: the whole message';
comment on column message_events.account is 'Account by which the webhook was verified; empty: it was not';
comment on column message_events.arrived_at is 'When it first reached our edge; of overdue the deadline';
comment on column message_events.provider_at is 'Vonage''s own time of it';
comment on column message_events.api is 'messages, sms, alerts or sms_or_alerts (a receipt alone does not tell the two apart)';
comment on column message_events.version is 'Version of the Messages webhook: v1 or v0.1';
comment on column message_events.channel is 'Channel as it told';
comment on column message_events.network is 'Network (MCC and MNC) as it told';
comment on column message_events.price is 'Price as it told. Every event of a message repeats it: never add these up, messages.cost is the cost';
comment on column message_events.currency is 'ISO 4217 code of price; receipts tell none';
comment on column message_events.segments is 'SMS segments as it told';
comment on column message_events.error_title is 'What Vonage calls the error';
comment on column message_events.error_instance is 'Vonage''s trace id of the error, to be quoted to its support';
comment on column message_events.pricing_type is 'WhatsApp: regular, free_customer_service and the like';
comment on column message_events.pricing_model is 'WhatsApp: PMP (per message) or CBP (per conversation)';
comment on column message_events.pricing_category is 'WhatsApp: service, utility, marketing and the like';
comment on column message_events.after_refusal is 'It came while our edge refused webhooks for a reason of its own, or soon after: its way here took longer than Vonage needed';

-- Whoever deletes a message (the loader, one of an older version, a person) deletes its facts.
create function delete_message_events() returns trigger language plpgsql as $$
begin
    delete from message_events as e using deleted as d where e.message_id = d.message_id;
    return null;
end
$$;
comment on function delete_message_events is 'The facts of a message go with its row';
create trigger delete_message_events after delete on messages
referencing old table as deleted for each statement execute function delete_message_events();

create table rollups (
    id text primary key,
    fragment boolean not null default false,
    kind text not null,
    send_id text,
    outcome text not null,
    is_final boolean not null,
    is_open boolean not null,
    outcome_at timestamptz,
    known integer not null,
    expected integer,
    delivered integer not null,
    decided_by text,
    worst text,
    last_delivered_at timestamptz,
    slowest_carrier_latency_ms bigint,
    sent_at timestamptz,
    api text,
    channel text,
    account text,
    traffic text not null default 'live',
    truncated boolean not null default false,
    cost numeric(18, 8),
    currency text,
    topic_epoch bigint not null,
    source_partition integer not null,
    source_offset bigint not null,
    updated_at timestamptz not null default now()
)
with (fillfactor = 80);

create index rollups_updated_at on rollups (updated_at);

comment on table rollups is
    'One row per send of several messages: what became of the whole. A send of one message has none.';
comment on column rollups.id is 'Id of the failover workflow, else the send id';
comment on column rollups.fragment is 'It was forgotten before the first message in this row: what came earlier is not known';
comment on column rollups.kind is 'parts: of one long text; failover: items tried one after the other';
comment on column rollups.send_id is 'The API call. Null: no send record was captured';
comment on column rollups.outcome is 'As in messages, or partial: some parts were delivered and none is open';
comment on column rollups.is_final is 'No later event is expected to change the outcome';
comment on column rollups.is_open is 'Something may still come, in time, and change the outcome';
comment on column rollups.outcome_at is 'When the outcome came about: of the message that decided, else of the last one';
comment on column rollups.known is 'How many messages of it were seen';
comment on column rollups.expected is 'How many parts there are. Null: a workflow''s items need not all be tried';
comment on column rollups.delivered is 'How many of its messages were delivered or read';
comment on column rollups.decided_by is 'The message whose outcome it is. Null: several together';
comment on column rollups.worst is 'The worst outcome among its messages';
comment on column rollups.last_delivered_at is 'When the last of its messages was delivered, by Vonage''s clock: the whole text is there';
comment on column rollups.slowest_carrier_latency_ms is 'The longest carrier_latency_ms among its messages';
comment on column rollups.sent_at is 'When the send was asked for. Null: no send record';
comment on column rollups.api is 'Api of the message that decided, else of the first';
comment on column rollups.channel is 'Channel of the message that decided, else of the first';
comment on column rollups.account is 'Vonage account (api key)';
comment on column rollups.traffic is 'live or test; test traffic stays out of every rate';
comment on column rollups.truncated is 'It has more messages than are kept';
comment on column rollups.cost is 'Sum of its messages'' costs. Null: none known, or in several currencies; messages has each';
comment on column rollups.currency is 'ISO 4217 code of cost';
comment on column rollups.topic_epoch is 'Which incarnation of topic rollups the row is from; with source_offset the row''s version';
comment on column rollups.source_partition is 'Partition of topic rollups the row is from';
comment on column rollups.source_offset is 'Offset in that partition: a row is only replaced by a later one';
comment on column rollups.updated_at is 'When the row was last written, by the database''s clock';

create table inbound (
    message_id text not null,
    part integer not null,
    account text,
    concat_ref text,
    concat_total integer,
    api text not null,
    version text,
    channel text,
    sender text,
    recipient text,
    arrived_at timestamptz not null,
    provider_at timestamptz,
    message_type text,
    encoding text,
    text_length integer,
    data_length integer,
    segments integer,
    keyword_class text not null,
    network text,
    cost numeric(18, 8),
    client_ref text,
    reply_to text,
    currency text,
    currency_source text,
    country text,
    traffic text not null default 'live',
    text text,
    topic_epoch bigint not null,
    source_partition integer not null,
    source_offset bigint not null,
    primary key (message_id, part)
);

create index inbound_sender on inbound (sender);
create index inbound_arrived_at on inbound (arrived_at);

comment on table inbound is
    'One row per message that came in, or per part of one (SMS API); inbound_messages puts parts together. A repeat changes nothing.';
comment on column inbound.message_id is 'Message id as Vonage gave it; each part has its own';
comment on column inbound.part is 'Which part of a long text this is, from 1';
comment on column inbound.account is 'Vonage account (api key) by which the webhook was verified. Null: it was not';
comment on column inbound.concat_ref is 'What the parts of one text share, beside sender and recipient; used again later. Null: one part, or the carrier does not mark them';
comment on column inbound.concat_total is 'How many parts the text has';
comment on column inbound.api is 'messages or sms';
comment on column inbound.version is 'Version of the Messages webhook: v1 or v0.1';
comment on column inbound.channel is 'sms, mms, rcs, whatsapp, messenger, viber_service';
comment on column inbound.sender is 'Who wrote: number or user id';
comment on column inbound.recipient is 'To: our number or name';
comment on column inbound.arrived_at is 'When it first reached our edge';
comment on column inbound.provider_at is 'Vonage''s own time: when it began to push it';
comment on column inbound.message_type is 'text, image, binary and the like';
comment on column inbound.encoding is 'text, unicode or binary; only the SMS API tells';
comment on column inbound.text_length is 'Length of the text in characters';
comment on column inbound.data_length is 'Length of binary data in bytes';
comment on column inbound.segments is 'SMS that the Messages API has put together';
comment on column inbound.keyword_class is 'What is asked for in a word: STOP, HELP, other or none. The word itself is not kept';
comment on column inbound.network is 'Network (MCC and MNC) of the sender';
comment on column inbound.cost is 'What receiving it cost, in units of currency';
comment on column inbound.client_ref is 'Client reference, where the webhook has one';
comment on column inbound.reply_to is 'The message that this one answers, where it says so';
comment on column inbound.currency is 'ISO 4217 code of cost';
comment on column inbound.currency_source is 'field: told by Vonage; default: the configured default';
comment on column inbound.country is 'Country of the sender''s number, ISO 3166; null where the sender is no phone number';
comment on column inbound.traffic is 'live or test (a test account); test traffic stays out of every rate';
comment on column inbound.text is 'The text. Null unless SENDTRACE_TEXT=keep';
comment on column inbound.topic_epoch is 'Which incarnation of topic inbound the row is from';
comment on column inbound.source_partition is 'Partition of topic inbound the row is from';
comment on column inbound.source_offset is 'Offset in that partition';

create table error_codes (
    family text not null,
    code text not null,
    version text not null default '',
    name text not null,
    category text not null,
    lasting text not null,
    actor text not null,
    explanation text not null,
    primary key (family, code, version)
);

comment on table error_codes is
    'The catalogue of error codes, as `sendtrace migrate` knows it. A code means something else in each family.';
comment on column error_codes.family is 'sms_send (answer of the SMS and Alerts API), dlr (receipts), messages (statuses) or problem (refusals by the Messages API)';
comment on column error_codes.code is 'The code';
comment on column error_codes.version is 'Version of the Messages webhook, where its versions differ; else empty';
comment on column error_codes.name is 'What it is called';
comment on column error_codes.category is 'What kind of error: number, content, carrier, account, throttle, fraud, regulation, provider, caller, no_confirmation, unknown or none';
comment on column error_codes.lasting is 'temporary: the same message may go through later; permanent: only after who can act has acted; unclear; none';
comment on column error_codes.actor is 'Who can act: sender, recipient, vonage, carrier, provider or nobody';
comment on column error_codes.explanation is 'What it means, in a sentence';
