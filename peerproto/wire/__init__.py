"""Bytes and what they mean: pure functions and values, no I/O and no clock."""
