"""What every process shares: settings, Kafka clients, topics, the consume loop, the service."""
