"""The compressing thread."""

import asyncio
import gzip
import zlib

import pytest

from exporter.web.compression import Gzip


@pytest.fixture
def compressions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the bodies that were really compressed."""
    sizes: list[int] = []
    real = gzip.compress

    def counting(body: bytes, level: int, *, mtime: float) -> bytes:
        sizes.append(len(body))
        return real(body, level, mtime=mtime)

    monkeypatch.setattr(gzip, "compress", counting)
    return sizes


async def test_one_body_is_compressed_once_for_all_who_ask(compressions: list[int]) -> None:
    """A pair of Prometheus servers that scrape at the same moment costs one compression."""
    packer = Gzip()
    body = b"x" * 5000
    first = await asyncio.gather(*(packer.compress("all", body) for _ in range(5)))
    again = await packer.compress("all", b"x" * 5000)
    assert {gzip.decompress(packed or b"") for packed in (*first, again)} == {body}
    assert compressions == [5000]
    await packer.stop()


async def test_keys_and_bodies_are_kept_apart(compressions: list[int]) -> None:
    """Text and OpenMetrics of the same length are not the same."""
    packer = Gzip()
    for key, body in (("text", b"a" * 2000), ("openmetrics", b"b" * 2000), ("text", b"c" * 2000), ("openmetrics", b"b" * 2000)):
        assert gzip.decompress(await packer.compress(key, body) or b"") == body
    assert len(compressions) == 3
    await packer.stop()


async def test_what_cannot_be_compressed_is_left_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory for one body must neither end the thread nor be remembered."""
    answers: list[Exception | None] = [MemoryError(), zlib.error(), None]

    def failing(body: bytes, level: int, *, mtime: float) -> bytes:
        problem = answers.pop(0)
        if problem is not None:
            raise problem
        return b"packed"

    monkeypatch.setattr(gzip, "compress", failing)
    packer = Gzip()
    assert [await packer.compress("all", b"x") for _ in range(3)] == [None, None, b"packed"]
    await packer.stop()


async def test_a_client_that_leaves_does_not_take_the_others_answer(compressions: list[int]) -> None:
    """The body under way is shared: cancelling one waiter must not cancel it for all."""
    packer = Gzip()
    leaving = asyncio.create_task(packer.compress("all", b"x" * 100_000))
    staying = asyncio.create_task(packer.compress("all", b"x" * 100_000))
    await asyncio.sleep(0)
    leaving.cancel()
    assert gzip.decompress(await staying or b"") == b"x" * 100_000
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await packer.stop()


async def test_what_is_kept_is_bounded(compressions: list[int]) -> None:
    """One scrape job per probe must not keep every body for ever."""
    packer = Gzip()
    for number in range(40):
        await packer.compress(number, b"x" * 10)
    await packer.compress(39, b"x" * 10)
    assert len(compressions) == 40
    await packer.compress(0, b"x" * 10)
    assert len(compressions) == 41
    await packer.stop()


async def test_stopping_what_never_began_is_nothing() -> None:
    """A server may end before anybody asked for gzip."""
    await Gzip().stop()
