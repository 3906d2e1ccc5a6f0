"""A peer that understands each protocol just far enough to be told the credentials, and tells them to everybody in its answer.

A server that quotes what it refuses is no invention: Redis answers `ERR AUTH <password> called without any password
configured`, proxies repeat the request they refuse, and a log-in by LDAP quotes what the directory said.
"""

import asyncio
import struct
from contextlib import AbstractAsyncContextManager

from pamqp import commands
from pamqp.frame import marshal

from tests.faults import peer

_CHUNK_BYTES = 65536


def telltale() -> AbstractAsyncContextManager[int]:
    """Speaks to PostgreSQL, Redis, AMQP and HTTP clients alike, by the first bytes they send."""
    return peer(_tell)


async def _tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    first = await reader.read(_CHUNK_BYTES)
    if first.startswith(b"AMQP"):
        await _amqp(reader, writer)
    elif first.startswith(b"*"):
        _redis(first, writer)
    elif first.startswith(b"\x00"):
        await _postgres(first, reader, writer)
    else:
        _http(first, writer)
    await writer.drain()
    await reader.read(1)


def _spoken(heard: bytes) -> bytes:
    """What was heard as text on one line."""
    return bytes(byte if 0x20 <= byte < 0x7F else 0x20 for byte in heard)


async def _amqp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuses the login with the login (AMQP 0-9-1, connection.close)."""
    writer.write(marshal(commands.Connection.Start(server_properties={}, mechanisms="PLAIN AMQPLAIN", locales="en_US"), 0))
    login = _spoken(await reader.read(_CHUNK_BYTES)).decode().rpartition("PLAIN")[2][:200]
    writer.write(marshal(commands.Connection.Close(403, f"ACCESS_REFUSED - Login was refused: {login}", 10, 11), 0))


def _redis(first: bytes, writer: asyncio.StreamWriter) -> None:
    """An error for each command, with the command (RESP2 simple errors)."""
    count = first.count(b"*")
    writer.write(b"-WRONGPASS invalid: %s\r\n" % _spoken(first) * max(1, count))


async def _postgres(first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Asks for the password in the clear, and fails with it (PostgreSQL manual, "Message Formats")."""
    if first[4:8] == struct.pack("!HH", 1234, 5679):  # SSLRequest
        writer.write(b"N")
        first = await reader.read(_CHUNK_BYTES)
    writer.write(b"R" + struct.pack("!II", 8, 3))
    password = _spoken(await reader.read(_CHUNK_BYTES))
    fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed: %s of %s\0\0" % (password, _spoken(first))
    writer.write(b"E" + struct.pack("!I", 4 + len(fields)) + fields)


def _http(first: bytes, writer: asyncio.StreamWriter) -> None:
    """In the reason, in headers and in the body."""
    heard = _spoken(first)
    head = b'HTTP/1.1 401 No to %s\r\nWWW-Authenticate: Basic realm="%s"\r\nX-Heard: %s\r\nContent-Length: %d\r\n\r\n'
    writer.write(head % (heard, heard.replace(b'"', b""), heard, len(heard)) + heard)
