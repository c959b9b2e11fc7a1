"""The public contract and the field's knowledge. Pure: no async, no clock, no logger, no I/O."""
