"""Tokens: secrets in files, by which readers and writers are known."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import stat
from typing import Final, Optional

import attrs

from peerproto import LocalProtocolError

LONGEST: Final = 4096
"""Bytes of a token at most."""


@attrs.frozen
class Token:
    """The secret of a file."""

    secret: bytes = attrs.field(repr=False)
    world_readable: bool = False
    """Whether everybody on this machine can read the file."""

    @classmethod
    def of(cls, path: str) -> Token:
        """The token in a file, without white space around it.

        :raises LocalProtocolError: the file cannot be read, or has no token in it.
        """
        try:
            with open(path, "rb") as file:
                secret = file.read(LONGEST + 1).strip()
                mode = os.fstat(file.fileno()).st_mode
        except OSError as problem:
            raise LocalProtocolError(
                "token file", path, f"a file that can be read ({problem.strerror})"
            ) from problem
        if not secret:
            raise LocalProtocolError("token file", path, "a token in the file: it is empty")
        if len(secret) > LONGEST or any(not 32 < byte < 127 for byte in secret):
            raise LocalProtocolError(
                "token file",
                path,
                f"one token in the file, of ASCII characters without blanks, {LONGEST} at most",
            )
        return cls(secret, bool(stat.S_ISREG(mode) and mode & stat.S_IROTH))

    def is_it(self, given: bytes) -> bool:
        """Whether somebody gave this token; takes as long whatever was given."""
        return hmac.compare_digest(self.secret, given)


def given_in(header: bytes) -> Optional[bytes]:
    """The token in a header ``Authorization``: after ``Bearer``, or as the password in ``Basic``;
    ``None`` if there is none."""
    scheme, _, rest = header.strip().partition(b" ")
    rest = rest.strip()
    if scheme.lower() == b"bearer":
        return rest or None
    if scheme.lower() != b"basic":
        return None
    try:
        _, colon, password = base64.b64decode(rest, validate=True).partition(b":")
    except binascii.Error:
        return None
    return password if colon and password else None
