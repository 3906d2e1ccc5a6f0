"""The command line of the demo: `exporter demo`, `exporter demo break` and `exporter demo heal`.

Imported by every command of the exporter, so the stage, which imports a driver, is imported when it is asked for.
"""

import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.config import DEFAULT_PORT
from exporter.demo.control import ask, socket_path
from exporter.errors import ExporterError

if TYPE_CHECKING:
    from exporter.demo.stage import Stage


@click.group(invoke_without_command=True)
@click.option("--once", "only_once", is_flag=True, help="Play one turn, healthy to broken and back, and exit 0 or 1.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Port of the exporter on 127.0.0.1; 0 picks one. Default {DEFAULT_PORT}, with --once a free one.",
)
@click.pass_context
def demo(context: click.Context, *, only_once: bool, port: int | None) -> None:
    """Show the exporter with a small trading platform and its real servers, to look at and to break."""
    if context.invoked_subcommand is not None:
        return
    from exporter.demo import scenes  # noqa: PLC0415 - not before it is known to be needed

    say = scenes.clock(click.echo)
    try:
        if only_once:
            sys.exit(0 if scenes.show(port or 0, say, scenes.once) else 1)
        scenes.show(DEFAULT_PORT if port is None else port, say, partial(scenes.endless, greet=_greet))
    except ExporterError as error:
        _stop(error)


def _greet(stage: "Stage") -> None:
    url, me = stage.exporter.url, _me()
    lines = (
        (f"{url}/", "the status page"),
        (f"curl {url}/health.txt", "what is healthy, worst first"),
        (f"curl -s {url}/metrics | grep -E '^(trade|active|celery_task)'", "numbers from the platform's own tables and tasks"),
        (f"curl -s {url}/metrics | grep circuit_state", "which circuits are open"),
        (f"{me} demo break db", "stops PostgreSQL; its circuit opens within 10 s"),
        (f"{me} demo break db --how freeze", "or hangs it: connections open, nothing answers"),
        (f"{me} demo heal db", "repairs it; the circuit closes within 15 s"),
        (f"{me} demo break NAME", f"the same with {', '.join(name for name in stage.targets if name != 'db')}"),
        (f"{me} demo pause", "has the platform trade no more, until `demo resume`"),
        (str(stage.platform.ledger), "what the platform really did"),
        (str(stage.exporter.configuration), "what the exporter was told"),
        (str(stage.exporter.log), "what it has to say"),
        ("Ctrl-C", "ends everything and leaves nothing"),
    )
    width = max(len(what) for what, _ in lines)
    click.echo("\n".join(("", *(f"  {what:{width}}  {why}" for what, why in lines), "")))


@demo.command("break")
@click.argument("name")
@click.option("--how", type=click.Choice(["stop", "freeze"]), default="stop", show_default=True, help="End it, or hang it.")
def break_(name: str, how: str) -> None:
    """Break NAME (db, redis, rabbitmq, celery or app) of the demo that runs."""
    _ask(f"break {name} {how}")


@demo.command()
@click.argument("name")
def heal(name: str) -> None:
    """Heal NAME (db, redis, rabbitmq, celery or app) of the demo that runs."""
    _ask(f"heal {name}")


@demo.command()
def pause() -> None:
    """Have the platform of the demo that runs trade no more: its ledger and the exporter's numbers come to rest."""
    _ask("pause")


@demo.command()
def resume() -> None:
    """Have it trade again."""
    _ask("resume")


def _ask(request: str) -> None:
    try:
        click.echo(ask(socket_path(os.environ), request))
    except ExporterError as error:
        _stop(error)


def _stop(error: ExporterError) -> None:
    click.echo(f"exporter demo: {error}", err=True)
    sys.exit(2)


def _me() -> str:
    """How this program is called from here: `exporter` where PATH leads to it, else as it was called."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{Path(sys.executable).name} -m exporter"
    found = shutil.which(called.name)
    return called.name if found and Path(found).resolve() == called.resolve() else str(called)
