"""The certificate of `CERT` and its key `KEY`, both in PEM."""

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

CURVES = ("secp256r1", "secp384r1")  # that granian supports


def check(cert: str, key: str) -> tuple[datetime.datetime, datetime.datetime]:
    """From when to when a certificate is valid; ValueError if the server cannot use it."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, "")
    except OSError as e:
        why = f"{e.strerror}, or a passphrase"
        raise ValueError(f"CERT={cert} KEY={key} cannot be used: {why}") from None
    certificate = x509.load_pem_x509_certificates(Path(cert).read_bytes())[0]
    kind = certificate.public_key()
    is_elliptic = isinstance(kind, ec.EllipticCurvePublicKey) and kind.curve.name in CURVES
    if not (is_elliptic or isinstance(kind, (rsa.RSAPublicKey, ed25519.Ed25519PublicKey))):
        raise ValueError(f"CERT={cert}: its key must be RSA, ECDSA (P-256 or P-384) or Ed25519")
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc
