"""Lets only well-framed bytes through to aiormq's parser, and hears what aiormq keeps to itself: refusals, and being blocked.

aiormq believes any length and waits for 4 GiB; it raises one and the same error for a missing virtual host and for garbage; and
that the broker has blocked us it tells nobody. All that stands in the frames that pass here. Pure but for its own state.
Frame and method formats: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, 2.3.5 and 4.2.
"""

import struct

from exporter.drivers.amqp.errors import Refusal, Stage
from exporter.errors import ProbeError
from exporter.model import Reason

MESSAGE_BYTES = 32 * 1024 * 1024
"""The longest message that is let in. A queue of ours is bounded below it, so that none can be delivered again and again."""
GREETING_BYTES = 16 * 1024
"""The longest frame until the login is through; RabbitMQ's greeting has about 500 bytes."""
FRAME_BYTES = 128 * 1024
"""The longest frame that is not a piece of a message: RabbitMQ's own default; the parser's time grows with its square."""

_HEADER = struct.Struct("!BHI")
_END = 206
_METHOD, _CONTENT, _BODY, _HEARTBEAT = 1, 2, 3, 8
_KINDS = frozenset((_METHOD, _CONTENT, _BODY, _HEARTBEAT))

_TLS_ALERT = b"\x15\x03"  # RFC 8446, 5.1

_METHOD_ID = struct.Struct("!HH")
_START, _TUNE, _OPEN_OK, _CLOSE, _BLOCKED, _UNBLOCKED = ((10, method) for method in (10, 30, 41, 50, 60, 61))
_EXPECTED = {Stage.GREETING: (_START,), Stage.LOGIN: (_TUNE, _CLOSE), Stage.OPENING: (_OPEN_OK, _CLOSE)}

_TUNE_BODY = struct.Struct("!HIH")
_CONTENT_BODY = struct.Struct("!HHQ")
_CODE = struct.Struct("!H")


class Frames:
    """The frames of one connection as they come in; mutable. `place` is `host:port`, for messages.

    `blocked` is the broker's word why it takes no messages now, None while it does.
    """

    def __init__(self, place: str) -> None:
        self.stage = Stage.GREETING
        self.refusal: Refusal | None = None
        self.garbled: ProbeError | None = None
        self.blocked: str | None = None
        self._place = place
        self._held = bytearray()
        self._longest_body = FRAME_BYTES

    def feed(self, data: bytes) -> bytes:
        """The whole frames there are by now; the rest is held back.

        Raises:
            ProbeError: reason protocol; they are no frames of AMQP 0-9-1, or too long. Nothing may be fed after it.
        """
        self._held += data
        end = 0
        try:
            while (after := self._end_of_frame(end)) is not None:
                end = after
        except ProbeError as error:
            self.garbled = error
            raise
        whole = bytes(self._held[:end])
        del self._held[:end]
        return whole

    def _end_of_frame(self, start: int) -> int | None:
        """Where the frame that begins there ends, looked at; None while it is not whole."""
        held = self._held
        if start < len(held) and held[start] not in _KINDS:
            raise self._no_amqp(start)
        if len(held) - start < _HEADER.size:
            return None
        kind, channel, size = _HEADER.unpack_from(held, start)
        self._judge(kind, channel, size)
        after: int = start + _HEADER.size + size + 1
        if after > len(held):
            return None
        if held[after - 1] != _END:
            raise self._garbled("a frame without its end")
        payload = bytes(held[start + _HEADER.size : after - 1]) if kind in (_METHOD, _CONTENT) else b""
        if kind == _CONTENT:
            self._look_at_content(payload)
        elif kind == _METHOD and channel == 0:
            self._look_at_method(payload)
        return after

    def _judge(self, kind: int, channel: int, size: int) -> None:
        if self.stage < Stage.OPEN and (kind != _METHOD or channel != 0 or size > GREETING_BYTES):
            raise self._garbled("another frame than that of a greeting")
        shortest = {_METHOD: _METHOD_ID.size, _CONTENT: _CONTENT_BODY.size}.get(kind, 0)
        longest = {_BODY: self._longest_body, _HEARTBEAT: 0}.get(kind, FRAME_BYTES)
        if not shortest <= size <= longest:
            raise self._garbled("a frame of impossible length")

    def _look_at_content(self, payload: bytes) -> None:
        _, _, size = _CONTENT_BODY.unpack_from(payload)
        if size > MESSAGE_BYTES:
            raise ProbeError(Reason.PROTOCOL, f"{self._place} sends a message of more than {MESSAGE_BYTES // 1024 // 1024} MiB")

    def _look_at_method(self, payload: bytes) -> None:
        method = _METHOD_ID.unpack_from(payload)
        expected = _EXPECTED.get(self.stage)
        if expected is not None and method not in expected:
            raise self._garbled("another method than that of a greeting")
        arguments = payload[_METHOD_ID.size :]
        if method == _CLOSE:
            self._look_at_close(arguments)
        elif method == _BLOCKED:
            self.blocked = self._short_text(arguments)
        elif method == _UNBLOCKED:
            self.blocked = None
        elif expected is not None:
            self._advance(method, arguments)

    def _advance(self, method: tuple[int, int], arguments: bytes) -> None:
        if method == _TUNE:
            if len(arguments) < _TUNE_BODY.size:
                raise self._garbled("a frame of impossible length")
            _, frame_bytes, _ = _TUNE_BODY.unpack_from(arguments)
            # zero means that the broker sets no limit
            self._longest_body = min(frame_bytes or MESSAGE_BYTES, MESSAGE_BYTES)
        self.stage = Stage(self.stage + 1)

    def _look_at_close(self, arguments: bytes) -> None:
        if len(arguments) < _CODE.size:
            raise self._garbled("a frame of impossible length")
        (code,) = _CODE.unpack_from(arguments)
        self.refusal = Refusal(code, self._short_text(arguments[_CODE.size :]))

    @staticmethod
    def _short_text(data: bytes) -> str:
        """A text with its length, one byte, before it."""
        return data[1 : 1 + data[0]].decode("utf-8", "replace") if data else ""

    def _no_amqp(self, start: int) -> ProbeError:
        if self._held.startswith(b"AMQP", start):
            return self._garbled("it speaks another version of AMQP")
        if self._held.startswith(_TLS_ALERT, start):
            return self._garbled("it speaks TLS; write amqps://, or `tls:` beside the url")
        return self._garbled("a frame of unknown type")

    def _garbled(self, what: str) -> ProbeError:
        return ProbeError(Reason.PROTOCOL, f"connect {self._place}: not the AMQP 0-9-1 protocol: {what}")
