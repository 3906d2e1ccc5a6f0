"""The command line: one function per command. Every error a user can make is one line and exit status 2, never a traceback."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from exporter import __version__, log
from exporter.app import CannotListen, Exporter, Origin, failed, probe_once, serve
from exporter.config import Configuration, find, load
from exporter.demo.command import demo
from exporter.errors import ConfigError
from exporter.generate import WHAT, generated
from exporter.healthcheck import main as ask
from exporter.model import CHECK, Run
from exporter.probes.installed import Catalogue
from exporter.secret import Redactor

F = TypeVar("F", bound=Callable[..., Any])

BAD_TARGET = 1
BAD_USAGE = 2


def common(command: F) -> F:
    """The options that stand before or after a subcommand."""
    options = (
        click.option("-c", "--config", "--config.file", "config", metavar="FILE", help="Configuration file."),
        click.option(
            "--listen", "--web.listen-address", "listen", metavar="HOST:PORT", help="Address to serve on; port 0 picks one."
        ),
        click.option(
            "--log-format", "--log.format", "log_format", type=click.Choice(["auto", "text", "json"]), help="Form of log lines."
        ),
        click.option(
            "--log-level",
            "--log.level",
            "log_level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            help="Least level logged.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="exporter")
@common
@click.pass_context
def main(context: click.Context, /, **options: str | None) -> None:
    """Probes the backends of one application and serves /health and /metrics. Without a command: run."""
    context.obj = options
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@common
@click.pass_obj
def run(before: Mapping[str, str | None], /, **after: str | None) -> None:
    """Probe on a schedule and serve what was seen."""
    options = _merged(before, after)
    path, read = _origin(options)
    configuration = _read(read)
    redactor = Redactor(configuration.secrets)

    def applied(configuration: Configuration) -> None:
        _configure_log(configuration, options, redactor)

    def announce(url: str) -> None:
        with suppress(OSError):  # nobody can read it: the log says it too
            click.echo(f"listening on {url}")

    applied(configuration)
    runner = asyncio.Runner()
    try:
        runner.run(serve(configuration, Origin(path, read, applied), redactor, announce))
    except CannotListen as error:
        _refuse(f"listen on {configuration.listen}: {error}; choose another address with --listen HOST:PORT")
    _exit(0)


@main.command()
@common
@click.pass_obj
def check(before: Mapping[str, str | None], /, **after: str | None) -> None:
    """Check the configuration and print every problem; touches no target."""
    _, read = _origin(_merged(before, after))
    configuration = _read(read)
    for warning in dict.fromkeys((*map(str, configuration.warnings), *Catalogue().clashes())):
        click.echo(f"warning: {warning}")
    probes = len(configuration.probes)
    click.echo(f"{configuration.source}: {probes} {'probe' if probes == 1 else 'probes'}, no problems")


@main.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(["text", "json", "metrics"]), default="text", help="Form of the answer.")
@common
@click.pass_obj
def probe(before: Mapping[str, str | None], /, names: Sequence[str], form: str, **after: str | None) -> None:
    """Run probes once, as the schedule would, collectors included. Exit status 1 when a check failed."""
    options = _merged(before, after)
    _, read = _origin(options)
    configuration = _read(read)
    redactor = Redactor(configuration.secrets)
    _configure_log(configuration, {**options, "log_level": options["log_level"] or "error"}, redactor)
    chosen = [_named(configuration, name) for name in names]
    _exit(asyncio.Runner().run(_probe(configuration, redactor, list(dict.fromkeys(chosen)), form)))


async def _probe(configuration: Configuration, redactor: Redactor, names: Sequence[str], form: str) -> int:
    exporter, runs = await probe_once(configuration, redactor, names)
    shows = {"text": _as_text, "json": _as_json, "metrics": _as_metrics}
    click.echo(shows[form](exporter, runs))
    return BAD_TARGET if any(map(failed, runs.values())) else 0


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def healthcheck(arguments: Sequence[str]) -> None:
    """Ask a running exporter whether it is alive; exit status 0 or 1."""
    sys.exit(ask(list(arguments)))


@main.command(
    short_help="Print a file made from the settings.",
    help=f"Print a file made from the settings. {'. '.join(f'{what}: {meaning}' for what, meaning in WHAT.items())}.",
)
@click.argument("what", type=click.Choice(list(WHAT)))
@common
def generate(what: str, **_: str | None) -> None:
    """The options are accepted here as everywhere; what is made follows from the installed package alone."""
    text, left_out = generated(what)
    for problem in left_out:
        click.echo(problem, err=True)
    click.echo(text, nl=False)


main.add_command(demo)

# -- options and configuration ---------------------------------------------------------------------------------------


def _merged(before: Mapping[str, str | None], /, after: Mapping[str, str | None]) -> dict[str, str | None]:
    """An option after the subcommand wins over the same one before it."""
    return {name: value if value is not None else before.get(name) for name, value in after.items()}


def _origin(options: Mapping[str, str | None]) -> tuple[Path | None, Callable[[bytes | None], Configuration]]:
    """The file, None for the environment alone, and how it is read, now and whenever it is to be read again."""
    path, passed_over = find(options["config"], os.environ, Path.cwd())
    if passed_over:
        click.echo(passed_over, err=True)
    return path, lambda content: load(path, os.environ, listen=options["listen"], content=content)


def _read(read: Callable[[bytes | None], Configuration]) -> Configuration:
    try:
        return read(None)
    except ConfigError as error:
        return _refuse(str(error))


def _configure_log(configuration: Configuration, options: Mapping[str, Any], redactor: Redactor) -> None:
    form = options["log_format"] or configuration.log.format
    log.configure(form, options["log_level"] or configuration.log.level, redactor)
    log.catch_strays()


def _named(configuration: Configuration, name: str) -> str:
    known = {alias: name for name, settings in configuration.probes.items() for alias in (name, *settings.aliases)}
    if name in known:
        return known[name]
    return _refuse(f"no probe {name!r} in {configuration.source}; there are: {', '.join(configuration.probes)}")


def _exit(status: int) -> NoReturn:
    """Ends at once: neither tasks that swallow their cancellation nor threads that hang in a name lookup may hold up the end.

    All is closed by now, so what is left is left.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # full, or closed; a closed one is None
            stream.flush()
    os._exit(status)


def _refuse(message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(BAD_USAGE)


# -- what `probe` shows ----------------------------------------------------------------------------------------------


Runs = Mapping[str, Sequence[Run]]


def _as_metrics(exporter: Exporter, runs: Runs) -> str:
    return exporter.page(False, *runs).decode().rstrip("\n")


def _as_json(exporter: Exporter, runs: Runs) -> str:
    """One object for one probe, a list of them for more."""
    told = [{"probe": name, "runs": list(map(_told, ran)), "series": _series(exporter, name)} for name, ran in runs.items()]
    return json.dumps(told[0] if len(told) == 1 else told, indent=2, ensure_ascii=False)


def _told(run: Run) -> dict[str, object]:
    return {
        "collector": run.collector,
        "outcome": run.outcome,
        "reason": run.reason,
        "message": run.message,
        "duration_seconds": round(run.duration_seconds, 6),
        "retries": run.retries,
        "detail": dict(run.reading.detail) if run.reading else {},
    }


def _as_text(exporter: Exporter, runs: Runs) -> str:
    return "\n\n".join(_probe_as_text(exporter, name, ran) for name, ran in runs.items())


def _probe_as_text(exporter: Exporter, name: str, runs: Sequence[Run]) -> str:
    width = max(len(run.collector) for run in runs)
    out = [name]
    for run in runs:
        why = f"  {run.reason}: {run.message}" if run.reason else ""
        out.append(f"  {run.collector:<{width}}  {run.outcome:<8}  {run.duration_seconds * 1000:.1f}ms{why}")
        if run.collector == CHECK and run.reading:
            out.extend(f"  {'':<{width}}  {key}: {value}" for key, value in run.reading.detail.items())
    return "\n".join((*out, "", *_series(exporter, name)))


def _series(exporter: Exporter, name: str) -> list[str]:
    """The sample lines of the target, our own left out."""
    lines = exporter.page(False, name).decode().splitlines()
    return [line for line in lines if not line.startswith(("#", "sidecar_"))]
