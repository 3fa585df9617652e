"""Certificates for peers that speak TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import trustme


class Authority:
    """Issues certificates as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = trustme.CA()
        self.ca_file = self.folder / "ca.pem"
        self.root.cert_pem.write_to_path(str(self.ca_file))

    def certificate(self, name: str, root: Optional[trustme.CA] = None, **options: Any) -> str:
        """The path of a certificate with its key, of this authority or of another ``root``."""
        issued = (root or self.root).issue_cert(name, **options)
        path = self.folder / f"{name}-{len(list(self.folder.glob('*.pem')))}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)

    def section(self, certificate: str, more: str = "verify-name = yes") -> str:
        """[tls] in a peers.ini."""
        return f"[tls]\ncertificate = {certificate}\nca-file = {self.ca_file}\n{more}\n"

    def haproxy(self, certificate: str, verify: str = "required") -> str:
        """What follows ``ssl`` in a haproxy.cfg."""
        return f"crt {certificate} ca-file {self.ca_file} verify {verify}"
