"""The program ``peerproto``: nodes for people at a terminal. It is a client of them."""
