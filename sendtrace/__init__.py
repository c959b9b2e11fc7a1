"""sendtrace: what became of every message sent through Vonage."""
