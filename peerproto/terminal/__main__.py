"""``python -m peerproto.terminal``: the same as ``peerproto``."""

from peerproto.terminal.main import main

if __name__ == "__main__":
    main()
