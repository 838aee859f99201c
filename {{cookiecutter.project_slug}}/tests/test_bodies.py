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
