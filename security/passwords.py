"""Passwords: hashing (argon2id, OWASP Password Storage Cheat Sheet), and the check at a sign-in."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar, TypeVarTuple, cast

import argon2
import bcrypt
import flask
import FlaskSimpleAuth as fsa
from zxcvbn_rs_py import zxcvbn

from database import db
from security.bounded_queue import BoundedQueue
from security.rate_limit import count_failure, limiter
from store.base import Credentials

# a hash takes a core and 19 MiB; most threads stay free for other requests
hash_queue = BoundedQueue("sign-ins", running=1, waiting=4)
JUDGED = 40  # characters of a password that zxcvbn looks at, in at most 0.1 s
NICE = 10  # priority of a thread that hashes (POSIX nice): lower than all others

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

wrong_password = functools.partial(fsa.ErrorResponse, "invalid username or password", 401)


def _in_background(function: Callable[[*Ts], R], *args: *Ts) -> R:
    """Call a function in a thread of low priority; the caller must be in `hash_queue`."""
    return _hash_threads().submit(function, *args).result()


@functools.cache
def _hash_threads() -> concurrent.futures.ThreadPoolExecutor:
    """The threads of this process that hash, at a lower priority than requests with a token."""

    def lower_priority() -> None:
        if sys.platform == "linux":  # where each thread has its own priority
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)

    return concurrent.futures.ThreadPoolExecutor(hash_queue.running, "hasher", lower_priority)


def is_password(password: str, reference: str) -> bool:
    """Whether a password has a certain hash: argon2, or bcrypt if it has been imported."""
    with hash_queue:
        return _in_background(_verify, password, reference)


def _verify(password: str, reference: str) -> bool:
    if reference.startswith("$2"):
        return bcrypt.checkpw(password.encode()[:72], reference.encode())
    try:  # FlaskSimpleAuth's check would log an error for each wrong password
        return argon2.PasswordHasher().verify(reference, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def hash_password(password: str, *about: str) -> str:
    """Hash a new password; 400 if it is too weak, 503 if too many wait for a hash.

    `about` is what others know of its user, such as the login: it makes a password guessable.
    """
    app = cast(fsa.Flask, flask.current_app)
    with hash_queue:
        hashed = str(_in_background(app.hash_password, password))
        _in_background(check_guessable, app.config["ACME_PASSWORD_SCORE"], password, about)
    return hashed


def check_guessable(least: int, password: str, about: Sequence[str] = ()) -> bool:
    """True for a password with at least a score by zxcvbn, from 0 to 4, else 400.

    zxcvbn estimates how many guesses a password takes: https://github.com/dropbox/zxcvbn.
    """
    if least:
        found = zxcvbn(password[:JUDGED], [word.lower() for text in about for word in _words(text)])
        if int(found.score) < least:
            feedback = found.feedback
            advice = [feedback.warning, *feedback.suggestions] if feedback else []
            text = " ".join(str(line) for line in advice if line)
            raise fsa.ErrorResponse(f"password is too easy to guess. {text}".rstrip(), 400)
    return True


def _words(text: str) -> list[str]:
    """The parts of a login or an address, and the whole."""
    return [text, *re.findall(r"\w{3,}", text)]


def _is_outdated(reference: str) -> bool:
    """Whether a hash has another algorithm or other parameters than new hashes."""
    hasher = argon2.PasswordHasher(**flask.current_app.config["FSA_PASSWORD_OPTS"])
    return not reference.startswith("$argon2") or hasher.check_needs_rehash(reference)


def check_password(login: object, password: object) -> Credentials | None:
    """The credentials of a user if the password is right and the user active, else None.

    An unknown user takes as long as a known one. An outdated hash of a right password is replaced.
    Raises 429 after too many failures, and 503 if too many wait for a hash.
    """
    if not isinstance(login, str) or not isinstance(password, str):
        raise fsa.ErrorResponse("username and password must be texts", 400)
    dummy_hash: str = flask.current_app.config["ACME_DUMMY_HASH"]
    limiter().check(login)
    hash_queue.check()
    # not in the queue, where others would wait for the store as well
    credentials = db.get_credentials(login)
    reference = credentials.password if credentials else dummy_hash
    with hash_queue:
        limiter().check(login)  # again, because others may have failed during the wait
        right = _in_background(_verify, password, reference)
        if not right or not credentials or not credentials.active:
            count_failure(login)
            return None
        if not _is_outdated(reference):
            return credentials
        new = _in_background(cast(fsa.Flask, flask.current_app).hash_password, password, False)
    if db.renew_user_pass(login, reference, new):
        return dataclasses.replace(credentials, password=new)
    return check_password(login, password)  # another request has changed the hash
