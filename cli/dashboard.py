"""The commands that show runs to a browser and to Prometheus."""

import argparse
from pathlib import Path

from cli.arguments import redis_url
from cli.commands import Commands
from cli.extras import require
from common.settings import REDIS_VARIABLE, RUN_VARIABLE, variable

LOOPBACK = "127.0.0.1"


def add_parsers(commands: Commands) -> None:
    """Adds `dashboard` and `exporter`."""
    url = variable(REDIS_VARIABLE)
    page = commands.add(
        "look", "dashboard", "a page in the browser: live runs, all runs, results", _dashboard, "[FOLDER]"
    )
    page.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="where run folders and sweeps are (default: runs)",
    )
    page.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="FOLDER",
        help="where reports are (default: results)",
    )
    page.add_argument(
        "--redis",
        type=redis_url,
        default=url,
        metavar="URL",
        help=f"show the runs of this server too (default: ${REDIS_VARIABLE})",
    )
    page.add_argument(
        "--host",
        default=LOOPBACK,
        metavar="ADDRESS",
        help=f"to listen on; beyond this machine a token is needed (default: {LOOPBACK})",
    )
    page.add_argument("--port", type=int, default=8050, help="0 takes a free one (default: 8050)")
    page.add_argument("--token-file", type=Path, metavar="FILE", help="holds the token (default: a new one is printed)")

    exporter = commands.add("operate", "exporter", "metrics of runs for Prometheus, at /metrics", _exporter)
    exporter.add_argument(
        "--redis",
        type=redis_url,
        required=url is None,
        default=url,
        metavar="URL",
        help=f"Redis' URL (default: ${REDIS_VARIABLE})",
    )
    exporter.add_argument(
        "--run",
        default=variable(RUN_VARIABLE),
        metavar="NAME",
        help=f"expose this run only (default: ${RUN_VARIABLE}, or all runs of the server)",
    )
    exporter.add_argument("--host", default=LOOPBACK, metavar="ADDRESS", help=f"to listen on (default: {LOOPBACK})")
    exporter.add_argument("--port", type=int, default=9105, help="0 takes a free one (default: 9105)")


def _dashboard(arguments: argparse.Namespace) -> int:
    require("dashboard")
    from dashboard.server import serve

    return serve(
        arguments.folder, arguments.results, arguments.redis, arguments.host, arguments.port, arguments.token_file
    )


def _exporter(arguments: argparse.Namespace) -> int:
    require("metrics")
    from dashboard.exporter import serve

    return serve(arguments.redis, arguments.run, arguments.host, arguments.port)
