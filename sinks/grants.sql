-- What the roles of the loader and of readers may do. `sendtrace migrate` runs it each time, as the
-- owner of the tables; a role that does not exist is left out. Who may create roles makes them once
-- (docs/warehouse.md):
--     create role sendtrace_loader nologin;
--     create role sendtrace_reader nologin;
do $$
declare
    place text := current_schema();
begin
    if exists (select from pg_roles where rolname = 'sendtrace_loader') then
        execute format('grant temporary on database %I to sendtrace_loader', current_database());
        execute format('grant usage on schema %I to sendtrace_loader', place);
        grant select, insert, update, delete
            on messages, message_events, rollups, inbound to sendtrace_loader;
        grant select, insert, update on sink_offsets to sendtrace_loader;
        grant select, insert on sink_source to sendtrace_loader;
        grant select on inbound_forgotten to sendtrace_loader;
    end if;
    if exists (select from pg_roles where rolname = 'sendtrace_reader') then
        execute format('grant usage on schema %I to sendtrace_reader', place);
        -- By name: other tables of the schema are not ours to show, and may not be to grant.
        grant select on messages, message_events, rollups, inbound, inbound_forgotten, error_codes,
            sink_offsets, sink_source, schema_migrations,
            live_messages, delivery_by_cohort, delivery_by_sender_and_network, receipt_coverage,
            spend_by_day_and_country, cost_per_delivered, estimate_against_final,
            vonage_report_by_hour, retryable, stop_and_dead_numbers, codes_first_seen,
            workflow_results, unanswered_candidates, open_messages_by_age, latest_balance,
            inbound_messages, message_timeline to sendtrace_reader;
    end if;
end
$$;
