"""The series of an HTTP check, under blackbox_exporter's names. What could not be read is absent, where blackbox writes 0."""

from exporter.model import Kind, Metric

DURATION = Metric("probe_duration_seconds", Kind.GAUGE, "Seconds the last check took, redirects included, also when it failed.")
STATUS_CODE = Metric("probe_http_status_code", Kind.GAUGE, "Status code of the last answer.")
PHASE_SECONDS = Metric(
    "probe_http_duration_seconds",
    Kind.GAUGE,
    "Seconds of each phase that ended, all redirects together: resolve, connect, tls, processing (from the connection to the"
    " answer's header) and transfer (the last answer's body, at most 1 MiB of it).",
    ("phase",),
)
CONTENT_LENGTH = Metric("probe_http_content_length", Kind.GAUGE, "Content-Length of the last answer in bytes, where it has one.")
BODY_LENGTH = Metric(
    "probe_http_uncompressed_body_length",
    Kind.GAUGE,
    "Bytes of the last answer's body once decompressed; absent above 1 MiB, where reading stops.",
)
REDIRECTS = Metric("probe_http_redirects", Kind.GAUGE, "Redirects that were followed.")
VERSION = Metric("probe_http_version", Kind.GAUGE, "HTTP version of the last answer, such as 1.1.")
SSL = Metric("probe_http_ssl", Kind.GAUGE, "Whether the last answer came over TLS: 1 or 0.")
CERT_EXPIRY = Metric(
    "probe_ssl_earliest_cert_expiry",
    Kind.GAUGE,
    "Unix time at which the first of the certificates ends that the last server asked had sent, intermediates included.",
)
TLS_VERSION = Metric("probe_tls_version_info", Kind.GAUGE, "TLS version spoken with the last server asked: 1.", ("version",))
LOOKUP_SECONDS = Metric("probe_dns_lookup_time_seconds", Kind.GAUGE, "Seconds it took to look up the configured host's addresses.")
REGEX_FAILED = Metric(
    "probe_failed_due_to_regex", Kind.GAUGE, "Whether a body regex failed the last check: 1, or 0 for any other answer."
)
IP_PROTOCOL = Metric("probe_ip_protocol", Kind.GAUGE, "IP version of the connection to the configured host: 4 or 6.")

DECLARED: tuple[Metric, ...] = (
    DURATION,
    STATUS_CODE,
    PHASE_SECONDS,
    CONTENT_LENGTH,
    BODY_LENGTH,
    REDIRECTS,
    VERSION,
    SSL,
    CERT_EXPIRY,
    TLS_VERSION,
    LOOKUP_SECONDS,
    REGEX_FAILED,
    IP_PROTOCOL,
)
