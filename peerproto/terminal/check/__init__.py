"""A haproxy.cfg held against a peers.ini, or made into one."""
