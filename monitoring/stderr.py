"""A log handler that writes to standard error, and never makes a request wait for its reader.

The reader of a pipe may be slow, stopped or gone, and the disk of a file full. What cannot be
written at once waits, up to `MAX_LINES` lines; what is lost is counted, and reported later.
"""

import collections
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable

MAX_LINES = 1000  # that wait; more are lost


class StderrHandler(logging.Handler):
    """Writes each line to standard error, at once if that does not block."""

    def __init__(self) -> None:
        super().__init__()
        self.count_loss: Callable[[], None] = lambda: None
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Begin without lines: in a forked process those of the parent are the parent's."""
        self._lines: collections.deque[bytes] = collections.deque()
        self._rest = b""  # of a line of which a part has been written
        self._writing = threading.Lock()  # held by the thread that writes
        self.lost = 0  # lines, since the last report

    def handle(self, record: logging.LogRecord) -> bool:
        """Log a record, without the lock of `logging.Handler`: others could not even queue."""
        if passes := bool(self.filter(record)):
            self.emit(record)
        return passes

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and write it, or leave it to the thread that writes."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        except Exception:
            self.handleError(record)
            return
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        else:
            self._lose()
        self._write()

    def _write(self) -> None:
        # again after the release: another thread may have queued a line just before it
        while self._lines and self._writing.acquire(blocking=False):
            if not self._write_lines(milliseconds=0):
                # keeps the lock until it is done
                threading.Thread(target=self._wait, name="log", daemon=True).start()
                return
            self._writing.release()

    def _wait(self) -> None:
        self._write_lines(milliseconds=None)
        self._writing.release()
        self._write()

    def _write_lines(self, milliseconds: int | None) -> bool:
        """Write all lines; False if standard error takes no more for that long, None for ever."""
        while self._rest or self._lines:
            fd = _descriptor()
            if fd is not None and not _is_writable(fd, milliseconds):
                return False
            is_begun = bool(self._rest)
            line = self._rest or self._lines.popleft()
            try:
                self._rest = _write_part(fd, line)
            except (OSError, ValueError):  # a closed pipe, a full disk, a closed stream
                self._rest = b""
                self._lose()
            else:
                if self.lost and not self._rest and not is_begun:
                    self._report()
        return True

    def _lose(self) -> None:
        self.lost += 1
        self.count_loss()

    def _report(self) -> None:
        lost, self.lost = self.lost, 0
        message = "%s lines of the log were lost: standard error was full, slow or closed"
        record = logging.LogRecord("acme", logging.ERROR, "", 0, message, (lost,), None)
        self._lines.appendleft(f"{self.format(record)}\n".encode())


def _descriptor() -> int | None:
    """The descriptor of standard error, None for a stream without one."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def _is_writable(fd: int, milliseconds: int | None) -> bool:
    """Whether a write does not block, by then; also if it would fail."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(milliseconds))


def _write_part(fd: int | None, line: bytes) -> bytes:
    """Write as much of a line as a pipe that is ready takes without blocking; returns the rest."""
    if fd is None:
        if sys.stderr is not None:
            sys.stderr.write(line.decode())
        return b""
    size = len(line) if stat.S_ISREG(os.fstat(fd).st_mode) else select.PIPE_BUF
    return line[os.write(fd, line[:size]) :]
