"""Responses with the headers that every answer carries, and what a request asked for. Knows no route and no probe."""

from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict

from exporter.errors import ExporterError
from exporter.model import Status
from exporter.web.health_json import encode
from exporter.web.negotiation import Form, health_form

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
HTML = "text/html; charset=utf-8"

_COMMON = {
    # everything here is true for a moment only
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # aiohttp would name its own and Python's version
    "Server": "sidecar-exporter",
}

_LONGEST_LIST = 2048  # Prometheus 3 sends some 400 characters of Accept, browsers 150

_NOT_STRICT = frozenset({"0", "false", "no", "off"})


class Declined(ExporterError):
    """A request gets `status` and a safe sentence instead of what it asked for; the sentence repeats nothing of it."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def answer(body: bytes, content_type: str, status: int = HTTPStatus.OK, **headers: str) -> web.Response:
    """A response; the names of further headers are written with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(body=body, status=status, headers=CIMultiDict({"Content-Type": content_type, **_COMMON, **named}))


def text(sentence: str, status: int = HTTPStatus.OK, **headers: str) -> web.Response:
    """A plain sentence, given its newline here."""
    return answer(f"{sentence}\n".encode("utf-8", "replace"), TEXT, status, **headers)


def document(content: dict[str, object], status: int = HTTPStatus.OK) -> web.Response:
    """A JSON body."""
    return answer(encode(content), JSON, status, Vary="Accept")


def declined(request: web.Request, declined: Declined) -> web.Response:
    """The refusal as JSON where the request would have had JSON, else as plain text."""
    try:
        form = wanted_form(request)
    except Declined:
        form = Form.TEXT
    if form is Form.JSON:
        return document({"error": str(declined)}, declined.status)
    return text(str(declined), declined.status, Vary="Accept")


def listed(request: web.Request, name: str) -> str:
    """A list header whole, however many lines it came in (RFC 9110 5.3); cut where no client of good faith gets to.

    What is negotiated is remembered by it, so its length is memory.
    """
    return ",".join(request.headers.getall(name, ()))[:_LONGEST_LIST]


def wanted_form(request: web.Request) -> Form:
    """From `?format=`, else from the Accept header.

    Raises:
        Declined: 400, `?format=` names a form we do not have.
    """
    named = request.query.get("format")
    if named is None:
        return health_form(listed(request, "Accept"))
    try:
        return Form(named.lower())
    except ValueError:
        raise Declined(HTTPStatus.BAD_REQUEST, f"format is one of {', '.join(Form)}") from None


def excluded(request: web.Request) -> frozenset[str]:
    """The names under `?exclude=`, which may be repeated and hold comma lists."""
    names = ",".join(request.query.getall("exclude", ())).split(",")
    return frozenset(name.strip() for name in names) - {""}


def health_code(status: Status, request: web.Request) -> int:
    """200 for healthy and degraded, else 503; with `?strict` 503 for degraded too."""
    good = {Status.HEALTHY} if _is_strict(request) else {Status.HEALTHY, Status.DEGRADED}
    return HTTPStatus.OK if status in good else HTTPStatus.SERVICE_UNAVAILABLE


def _is_strict(request: web.Request) -> bool:
    return "strict" in request.query and request.query["strict"].lower() not in _NOT_STRICT
