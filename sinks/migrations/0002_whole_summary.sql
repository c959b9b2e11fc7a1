-- The rest of what is known of a message. Expand only: a loader that knows the first columns alone
-- goes on working, so every new one may be left out.

alter table messages
    add outcome_clock text,
    add is_open boolean,
    add category text,
    add traffic text not null default 'live',
    add direction text not null default 'outbound',
    add country text,
    add workflow_item integer,
    add workflow_items integer,
    add application text,
    add answer text,
    add answer_status text,
    add send_clock text,
    add deliver_latency_ms bigint,
    add accept_latency_ms bigint,
    add read_latency_ms bigint,
    add callback_latency_ms bigint,
    add ingest_lag_ms bigint,
    add estimate numeric(18, 8),
    add balance numeric(18, 8),
    add encoding text,
    add message_class integer,
    add pool_id text,
    add entity_id text,
    add content_id text,
    add template text;

comment on table messages is
    'One row per message: the latest lifecycle of topic lifecycles. Times are UTC. A row last written before a column was added has nothing (or the default) in it.';
comment on column messages.outcome_clock is 'Whose clock told outcome_at: vonage, ours (an arrival, a deadline, our proxy) or client';
comment on column messages.is_open is 'Something may still come, in time, and change the outcome';
comment on column messages.category is 'What kind of failure the code is, where the outcome is no success and not under way; no_confirmation: the carrier said nothing';
comment on column messages.traffic is 'live or test; test traffic stays out of every rate';
comment on column messages.direction is 'outbound: the message was sent; inbound: it came in';
comment on column messages.country is 'Country of the recipient''s number, ISO 3166; null where the recipient is no phone number';
comment on column messages.workflow_item is 'Which item of the failover workflow this is; 1 is the message that was asked for';
comment on column messages.workflow_items is 'How many items the failover workflow has, tried or not';
comment on column messages.application is 'Vonage application it was sent by. Null: none, or no send record';
comment on column messages.answer is 'What Vonage said to the send: accepted, refused, throttled, unanswered or unreadable. Null: no send record';
comment on column messages.answer_status is 'The answer''s own status: of the message in the SMS API, of HTTP in the Messages API';
comment on column messages.send_clock is 'Whose clock told sent_at: ours (at our proxy, or when we heard of the send) or client (as POST /sends said)';
comment on column messages.deliver_latency_ms is 'From the answer to the send (by send_clock) to delivered (by Vonage''s clock), in milliseconds';
comment on column messages.accept_latency_ms is 'From the request to the answer, both by send_clock, in milliseconds';
comment on column messages.read_latency_ms is 'From delivered to read, both by Vonage''s clock, in milliseconds';
comment on column messages.callback_latency_ms is 'From Vonage''s time of the first event to its arrival (by our clock), in milliseconds; null where our edge refused webhooks then';
comment on column messages.ingest_lag_ms is 'The same as callback_latency_ms, whatever our edge did';
comment on column messages.estimate is 'The price that the send''s answer told, also where an event told the real one';
comment on column messages.balance is 'The account''s balance after it, that the send''s answer told; in the account''s currency';
comment on column messages.encoding is 'Encoding that was asked for: text, unicode, binary, auto';
comment on column messages.message_class is 'SMS message class that was asked for; 0 is flash';
comment on column messages.pool_id is 'Pool of senders that was asked for';
comment on column messages.entity_id is 'Entity id given with the send (India''s DLT)';
comment on column messages.content_id is 'Content id given with the send (India''s DLT)';
comment on column messages.template is 'Name or number of the template; its parameters are content, and not kept';

-- What they say has become more exact.
comment on column messages.outcome_at is 'When the outcome came about, by outcome_clock';
comment on column messages.sent_at is 'When the send was asked for, by send_clock';
comment on column messages.receipt_expected is 'Whether a receipt was asked for, and goes to us. Null: no send record';
