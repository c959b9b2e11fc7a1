-- What `sendtrace forget` deleted of `inbound`. The topic keeps it for some days, and Vonage may
-- repeat it: neither the loader nor a rebuild brings it back.

create table inbound_forgotten (
    message_id text primary key,
    forgotten_at timestamptz not null default now()
);

comment on table inbound_forgotten is 'Inbound messages whose sender was forgotten; kept for as long as Kafka may still have them';
comment on column inbound_forgotten.message_id is 'Message id; nothing else of it is kept';
comment on column inbound_forgotten.forgotten_at is 'When it was forgotten, by the database''s clock';
