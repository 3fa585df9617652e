"""Sessions with peers: who defined what, acked what, is taught or teaches."""
