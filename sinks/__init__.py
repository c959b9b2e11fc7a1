"""The ends: the exporter (Prometheus) and the loader (PostgreSQL)."""
