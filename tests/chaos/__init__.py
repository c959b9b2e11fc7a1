"""Faults of every kind, and the stack that they are done to. Shared by the tests that kill."""
