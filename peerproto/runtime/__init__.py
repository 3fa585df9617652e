"""Ways into a running node: the runtime socket, with HAProxy's commands."""
