"""The body of a request that may run again: edit only to keep it elsewhere than in memory."""

import io
from typing import Any


class RecordedBody(io.RawIOBase):
    """The body of a request, which can be read again from the start unless it is longer than `limit` bytes."""

    def __init__(self, source: Any, limit: int) -> None:
        """Read from `source`, a WSGI input."""
        self._source, self._limit, self._record, self.complete = source, limit, io.BytesIO(), True

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Stay open, for the next run: a wrapper such as `io.TextIOWrapper` closes what it has read."""

    def readinto(self, buffer: Any) -> int:
        """Read what was recorded, then from the source."""
        piece: bytes = self._record.read(len(buffer))
        if not piece:
            piece = self._source.read(len(buffer))
            self.complete = self.complete and self._record.tell() + len(piece) <= self._limit
            if self.complete:
                self._record.write(piece)
        buffer[: len(piece)] = piece
        return len(piece)

    def rewind(self) -> None:
        """Start again."""
        self._record.seek(0)
