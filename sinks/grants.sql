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
        execute format('grant select on all tables in schema %I to sendtrace_reader', place);
    end if;
end
$$;
