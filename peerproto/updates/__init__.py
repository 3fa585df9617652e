"""Rows to updates and back, at speed."""
