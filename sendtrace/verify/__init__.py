"""`sendtrace verify`: ledger, topics, warehouse and /metrics held against each other."""
