"""Pure: what became of a send with several messages. No async, clock or logger."""
