"""Passwords: hashing (argon2id, OWASP Password Storage Cheat Sheet), and the check at a sign-in."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import argon2
import bcrypt
import flask
import FlaskSimpleAuth as fsa

from database import db
from security.rate_limit import count_failure, limiter
from store.base import Credentials

MAX_HASHES = 1  # how many passwords are hashed at the same time, in a process
MAX_WAITING = 4  # how many more may wait for that: far fewer than there are threads
hash_queue = threading.BoundedSemaphore(MAX_HASHES + MAX_WAITING)
hash_slots = threading.BoundedSemaphore(MAX_HASHES)
NICE = 10  # so much later than all others comes a thread that hashes (POSIX nice)

wrong_password = functools.partial(fsa.ErrorResponse, "invalid username or password", 401)


@contextlib.contextmanager
def _hashing() -> Iterator[Callable[..., Any]]:
    """A place to hash: the few who wait for one leave most threads to who has a token, else 503.

    Yields what calls a function with its arguments in a thread that gives way to all others.
    """
    if not hash_queue.acquire(blocking=False):
        message = "too many sign-ins at the same time: try again"
        raise fsa.ErrorResponse(message, 503, {"Retry-After": "1"})
    try:
        with hash_slots:
            yield lambda function, *args: _hasher().submit(function, *args).result()
    finally:
        hash_queue.release()


@functools.cache
def _hasher() -> concurrent.futures.ThreadPoolExecutor:
    """The threads of this process that hash, as many as desks: whoever has a token goes first."""

    def give_way() -> None:
        if sys.platform == "linux":  # where it is a thread's own, not the process's
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)

    return concurrent.futures.ThreadPoolExecutor(MAX_HASHES, "hasher", give_way)


def is_password(password: str, reference: str) -> bool:
    """Whether a password has a certain hash: argon2, or bcrypt if it has been imported."""
    with _hashing() as call:
        return bool(call(_verify, password, reference))


def _verify(password: str, reference: str) -> bool:
    if reference.startswith("$2"):
        return bcrypt.checkpw(password.encode()[:72], reference.encode())
    try:  # FlaskSimpleAuth's check would log an error for each wrong password
        return argon2.PasswordHasher().verify(reference, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def hash_password(password: str) -> str:
    """Hash a new password; 400 if it is too weak, 503 if too many wait for a hash."""
    with _hashing() as call:
        return str(call(cast(fsa.Flask, flask.current_app).hash_password, password))


def _is_outdated(reference: str) -> bool:
    """Whether the algorithm or the parameters of a hash are others than ours."""
    hasher = argon2.PasswordHasher(**flask.current_app.config["FSA_PASSWORD_OPTS"])
    return not reference.startswith("$argon2") or hasher.check_needs_rehash(reference)


def check_password(login: object, password: object) -> Credentials | None:
    """The credentials of a user if the password is right and the user active, else None.

    An unknown user takes as long as a known one. The outdated hash of a right password is replaced.
    Raises 429 after too many failures, and 503 if too many wait for a hash.
    """
    if not isinstance(login, str) or not isinstance(password, str):
        raise fsa.ErrorResponse("username and password must be texts", 400)
    dummy_hash: str = flask.current_app.config["ACME_DUMMY_HASH"]
    limiter().check(login)
    with _hashing() as call:
        limiter().check(login)  # again, because others may have failed while this one waited
        credentials = db.get_credentials(login)
        reference = credentials.password if credentials else dummy_hash
        right = call(_verify, password, reference)
        if not right or not credentials or not credentials.active:
            count_failure(login)
            return None
        if not _is_outdated(reference):
            return credentials
        new = call(cast(fsa.Flask, flask.current_app).hash_password, password, False)
        if db.renew_user_pass(login, reference, new):
            return dataclasses.replace(credentials, password=new)
    return check_password(login, password)  # another request has changed the hash meanwhile
