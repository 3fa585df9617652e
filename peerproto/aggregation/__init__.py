"""Aggregates: what all HAProxies of a fleet count together, in a table that they decide on."""
