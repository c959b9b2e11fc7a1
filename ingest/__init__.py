"""The edge: takes webhooks and send records, verifies, stamps, forwards to Kafka. Never decides."""
