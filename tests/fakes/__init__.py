"""Fakes: few, small, honest. Each sits at a port and passes the same contract tests as the real."""
