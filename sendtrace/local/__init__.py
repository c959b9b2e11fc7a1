"""The local stack: real Kafka and real PostgreSQL on a machine that has only Python."""
