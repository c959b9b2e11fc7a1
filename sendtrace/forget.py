"""``sendtrace forget``."""
