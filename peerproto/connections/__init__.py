"""Sessions over Twisted's transports."""
