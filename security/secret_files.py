"""Secrets from files, as containers and systemd hand them over: `ACME_PASS_FILE` and the others."""

import os
from pathlib import Path

NAMES = ("ACME_PASS", "ACME_TOKEN_SECRET", "ACME_DATABASE", "ACME_MAIL")
paths: dict[str, Path] = {}  # that were read, by the name of the setting


def load() -> None:
    """Set each variable of `NAMES` from the file that its namesake with `_FILE` names.

    ValueError if both are set, or the file is empty or not readable. One line break at the end of
    a file is left out.
    """
    for name in NAMES:
        path = os.environ.get(f"{name}_FILE")
        if not path:
            continue
        if name in os.environ:
            raise ValueError(f"set {name} or {name}_FILE, not both")
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as e:
            raise ValueError(f"{name}_FILE={path}: {getattr(e, 'strerror', 'not UTF-8')}") from None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text or "\0" in text:
            raise ValueError(f"{name}_FILE={path}: it is empty, or no text")
        os.environ[name] = text
        paths[name] = Path(path)
        del os.environ[f"{name}_FILE"]
