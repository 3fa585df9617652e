"""Tables kept on a PostgreSQL server, which several nodes may share."""
