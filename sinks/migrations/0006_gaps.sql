-- Which topic a position is of, and what was skipped with `loader --accept-gap`. A loader that does
-- not know these columns leaves them alone.

alter table sink_offsets add topic_id text;
alter table sink_offsets add gaps integer not null default 0;
alter table sink_offsets add gap_records bigint not null default 0;
comment on column sink_offsets.topic_id is 'Id of the topic that next is an offset of; null: not known yet';
comment on column sink_offsets.gaps is 'How many times --accept-gap went on from elsewhere than next';
comment on column sink_offsets.gap_records is 'Offsets that were not loaded because of that';
comment on column sink_source.topic_id is 'Always null: topic_id of sink_offsets tells it';
