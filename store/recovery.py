"""Recovery codes in the store: their calls, and how memory keeps them."""

import abc
import threading
from collections.abc import Callable
from typing import Any

from values import Hash, Login

COLUMNS: dict[str, Callable[[Any], Any]] = {"hash": Hash, "login": Login}


class RecoveryCodes(abc.ABC):
    """The part of the contract of all stores that concerns recovery codes of the second factor."""

    @abc.abstractmethod
    def set_recovery_codes(self, login: str, hashes: list[str]) -> bool:
        """Replace the recovery codes of a user; False unless one-time passwords are on."""

    @abc.abstractmethod
    def use_recovery_code(self, login: str, hash: str) -> bool:  # noqa: A002
        """Remove a recovery code of a user; False if there is none, or one-time passwords are off.

        Of simultaneous calls with one code only one gets True.
        """


class RecoveryCodesInMemory(RecoveryCodes):
    """Recovery codes in memory: a set of hashes in each user."""

    _lock: threading.RLock
    users: dict[str, Any]

    def set_recovery_codes(self, login: str, hashes: list[str]) -> bool:
        with self._lock:
            user = self.users.get(login)
            if not user or not user.otp:
                return False
            user.recovery = set(hashes)
            return True

    def use_recovery_code(self, login: str, hash: str) -> bool:  # noqa: A002
        with self._lock:
            user = self.users.get(login)
            if not user or not user.otp or hash not in user.recovery:
                return False
            user.recovery.remove(hash)
            return True
