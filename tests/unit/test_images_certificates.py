"""Why the certificate of an image's server was refused, read from what the connection raised."""

import ssl

import httpcore

from draftd.images.fetch import refused_certificate
from tables import per_row


def refusal(verify_code: int) -> httpcore.ConnectError:
    """Return what httpcore raises for a refused certificate."""
    error = httpcore.ConnectError()
    error.__cause__ = ssl.SSLCertVerificationError()
    error.__cause__.verify_code = verify_code
    return error


@per_row(
    ("verify_code", "why"),
    [
        (9, "not yet valid"),
        (10, "expired"),
        (18, "self-signed"),
        (20, "unknown issuer"),
        (62, "wrong host"),
        (23, "not trusted"),
    ],
)
def test_the_reason_is_named(verify_code: int, why: str) -> None:
    assert refused_certificate(refusal(verify_code)) == why


def test_another_failure_is_not_taken_for_one() -> None:
    error = httpcore.ConnectError()
    error.__cause__ = ssl.SSLError("handshake failure")
    assert refused_certificate(error) is None
