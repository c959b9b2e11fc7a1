"""``sendtrace explain``."""
