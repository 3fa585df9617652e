"""Stick tables: what they are declared as, their entries, expiry and changes.

Pure: no clock and no I/O, the current time is an argument, in ms.
"""
