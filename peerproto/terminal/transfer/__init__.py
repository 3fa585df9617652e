"""Tables from nodes and files to files and nodes: ``export``, ``import`` and ``copy``."""
