"""Certificates for servers behind TLS, made on the spot."""

import ssl
import subprocess
from pathlib import Path


class Certificate:
    """A certificate that signs itself, and its key."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(self.key)]
        subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2"]
        command = ["openssl", "req", "-x509", *key, *subject, "-out", str(self.file)]
        subprocess.run(command, check=True, capture_output=True)

    @property
    def context(self) -> ssl.SSLContext:
        """What a server shows it with."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.file, self.key)
        return made
