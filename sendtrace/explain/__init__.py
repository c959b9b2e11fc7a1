"""``sendtrace explain``: what happened to one message, in words, for support."""
