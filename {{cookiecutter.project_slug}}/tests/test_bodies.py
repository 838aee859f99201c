"""Tests of the body of a request that may run again."""

import io

from app.bodies import RecordedBody


def test_a_body_is_recorded_as_it_is_read() -> None:
    body = RecordedBody(io.BytesIO(b"abcdef"), limit=6)
    assert body.read(2) == b"ab"

    body.rewind()

    assert body.read(4) == b"ab"
    assert body.read() == b"cdef"
    body.rewind()
    assert (body.read(), body.complete) == (b"abcdef", True)


def test_a_body_that_was_too_long_once_stays_so() -> None:
    body = RecordedBody(io.BytesIO(b"abcdefghi"), limit=6)

    for size in (5, 3, 1):
        body.read(size)

    assert not body.complete
