"""End-to-end tests: real HAProxies and real peers, on loopback ports that the system picks."""
