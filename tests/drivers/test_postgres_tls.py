"""TLS as sslmode says, on a real server with a certificate, and on one without."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme

from exporter.demo.servers import HOST, Certificate, Postgres
from exporter.drivers.dns import Resolver
from exporter.drivers.postgres import Endpoint, Login, connect
from exporter.drivers.tls import Tls
from exporter.errors import ProbeError
from exporter.model import Reason
from exporter.secret import Secret
from tests.servers import execute, start_postgres


@dataclass(frozen=True)
class Place:
    """A server with TLS: its certificate is for localhost and not for 127.0.0.1; the files are PEM."""

    server: Postgres
    ca_file: str
    other_ca_file: str
    cert_file: str
    key_file: str

    def tls(self, **parts: object) -> Tls:
        return replace(Tls(ca_file=self.ca_file), **parts)  # type: ignore[arg-type]  # parts of a Tls


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="sidecar-tls-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # the server reads its client CA from here
        issued = _write_certificates(folder)
        server = start_postgres(
            certificate=Certificate(issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()),
            settings={"ssl_ca_file": str(folder / "ca.pem")},
            hba=(
                "hostnossl all plain_only all scram-sha-256",
                "hostssl all plain_only all reject",
                "hostssl all tls_only all scram-sha-256",
                "hostnossl all tls_only all reject",
                "hostssl all certain all cert",
            ),
        )
        stack.callback(server.close)
        yield Place(server, *(str(folder / name) for name in ("ca.pem", "other.pem", "client.crt", "client.key")))


def _write_certificates(folder: Path) -> trustme.LeafCert:
    """Two authorities and a client's certificate by the first; gives the server's."""
    authority = trustme.CA()
    client = authority.issue_cert("certain@client.test", common_name="certain")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    client.cert_chain_pems[0].write_to_path(folder / "client.crt")
    client.private_key_pem.write_to_path(folder / "client.key")
    return authority.issue_cert("localhost")


@pytest.fixture
async def _roles(place: Place) -> None:
    """The roles that pg_hba.conf names."""
    for name in ("plain_only", "tls_only", "certain"):
        await execute(
            place.server.url, f"DROP ROLE IF EXISTS {name}", f"CREATE ROLE {name} LOGIN PASSWORD '{place.server.password}'"
        )


async def encrypted(server: Postgres, sslmode: str, tls: Tls | None = None, user: str = "postgres", host: str = HOST) -> bool:
    """Whether the session that comes of it speaks TLS."""
    login = Login(Endpoint(host, server.port, sslmode, tls or Tls()), user, Secret(server.password), "postgres")
    ends: list[Callable[[], None]] = []
    try:
        session = await connect(login, Resolver(), ends.append)
        await session.ping()
        return session.encrypted
    finally:
        for end in ends:
            end()


async def refusal(server: Postgres, sslmode: str, tls: Tls | None = None, user: str = "postgres", host: str = HOST) -> ProbeError:
    with pytest.raises(ProbeError) as caught:
        await encrypted(server, sslmode, tls, user, host)
    return caught.value


@pytest.mark.parametrize(("sslmode", "expected"), [("disable", False), ("allow", False), ("prefer", True), ("require", True)])
async def test_the_unverified_modes(place: Place, sslmode: str, expected: bool) -> None:
    """As libpq: allow begins in plain, prefer and require in TLS, and none of them looks at the certificate."""
    assert await encrypted(place.server, sslmode) is expected


async def test_verify_full_wants_the_right_name_and_authority(place: Place) -> None:
    """The only mode that a server in between cannot get around."""
    assert await encrypted(place.server, "verify-full", place.tls(), host="localhost")
    wrong_name = await refusal(place.server, "verify-full", place.tls())
    unknown = await refusal(place.server, "verify-full", Tls(ca_file=place.other_ca_file), host="localhost")
    assert (wrong_name.reason, unknown.reason) == (Reason.TLS, Reason.TLS)
    assert str(wrong_name).startswith(f"TLS with {HOST}:{place.server.port}: certificate verify failed: IP address mismatch")
    assert "certificate verify failed: self-signed certificate in certificate chain" in str(unknown)
    assert not wrong_name.retryable


async def test_server_name_stands_for_the_host(place: Place) -> None:
    """A database reached through an address or a tunnel has its certificate for another name."""
    assert await encrypted(place.server, "verify-full", place.tls(server_name="localhost"))
    assert (await refusal(place.server, "verify-full", place.tls(server_name="db.test"), host="localhost")).reason is Reason.TLS


async def test_verify_ca_wants_the_authority_alone(place: Place) -> None:
    """And so does require with a CA file, as in libpq."""
    for sslmode in ("verify-ca", "require"):
        assert await encrypted(place.server, sslmode, place.tls())
        assert (await refusal(place.server, sslmode, Tls(ca_file=place.other_ca_file))).reason is Reason.TLS


async def test_a_ca_file_that_is_gone_is_a_configuration_error(place: Place) -> None:
    """Not a TLS error of the server's: the operator looks at the file."""
    error = await refusal(place.server, "verify-full", Tls(ca_file="/nowhere/ca.pem"))
    assert (error.reason, str(error)) == (Reason.CONFIG, "tls.ca_file /nowhere/ca.pem: no such file or directory")


async def test_min_version_is_kept_to(place: Place) -> None:
    """A server that speaks TLS 1.3 satisfies both."""
    assert await encrypted(place.server, "require", Tls(min_version="TLS13"))


@pytest.mark.usefixtures("_roles")
async def test_a_client_certificate_logs_in(place: Place) -> None:
    """pg_hba's `cert`: no password at all."""
    tls = place.tls(cert_file=place.cert_file, key_file=place.key_file)
    assert await encrypted(place.server, "verify-ca", tls, user="certain")
    assert (await refusal(place.server, "verify-ca", place.tls(), user="certain")).reason is Reason.AUTH


@pytest.mark.usefixtures("_roles")
async def test_prefer_and_allow_try_the_other_way(place: Place) -> None:
    """pg_hba.conf may let a role in one way only."""
    assert await encrypted(place.server, "prefer", user="plain_only") is False
    assert await encrypted(place.server, "allow", user="tls_only") is True
    assert (await refusal(place.server, "require", user="plain_only")).reason is Reason.AUTH
    assert (await refusal(place.server, "disable", user="tls_only")).reason is Reason.AUTH


async def test_a_wrong_password_is_not_sent_again_in_plain(place: Place) -> None:
    """Refused inside TLS, the same password outside it would only be exposed."""
    login = Login(Endpoint(HOST, place.server.port), "postgres", Secret("wrong"), "postgres")
    before = complaints(place.server)
    with pytest.raises(ProbeError):
        await connect(login, Resolver(), lambda abort: None)
    assert complaints(place.server) - before == 1


def complaints(server: Postgres) -> int:
    """How often the server's log tells of a wrong password."""
    return server.log.read_text().count("password authentication failed")


async def test_a_server_without_tls(postgres_server: Postgres) -> None:
    """prefer goes on in plain, what asks for more does not."""
    assert await encrypted(postgres_server, "prefer") is False
    for sslmode in ("require", "verify-ca", "verify-full"):
        error = await refusal(postgres_server, sslmode)
        assert (error.reason, error.retryable) == (Reason.TLS, False)
        assert str(error) == f"TLS with {HOST}:{postgres_server.port}: the server does not offer TLS"
