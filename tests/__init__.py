"""Unit tests: trial test cases, with a clock that the test moves, and no sockets."""

from __future__ import annotations

import os

from hypothesis import settings

# Slow machines are no reason to fail; CI may ask for more examples.
settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
