"""Plays Vonage over HTTP: traffic by its own templates, never by the parsers of schemas."""
