"""Tables that outlive the process: kept in a SQLite file, and loaded when the node starts."""
