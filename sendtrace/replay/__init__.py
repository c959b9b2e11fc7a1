"""``sendtrace replay``: what lies in quarantine and is understood now is put through again."""
