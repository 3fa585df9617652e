"""The face: a peer as a service, and its tables."""
