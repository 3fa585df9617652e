"""``peerproto top``: a live screen of a node."""
