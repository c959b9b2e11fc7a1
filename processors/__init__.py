"""The joiner: joins sends with statuses and receipts, exactly once."""
