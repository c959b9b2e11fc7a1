"""Pure: facts, their union, and what follows from a set of facts. No async, clock or logger."""
