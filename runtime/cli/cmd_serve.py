"""`gemma-edge serve`: an OpenAI-compatible server, and a chat page."""

from __future__ import annotations

import argparse
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import GemmaError
from ..needs import check_installed
from ..session.model import Model
from .flags import add_context, add_engine, add_threads
from .notices import print_notices, print_shortened

if TYPE_CHECKING:  # the packages of the extra are imported when a server runs: --help needs none
    import uvicorn

    from ..serve.app import Limits, Server
    from ..serve.guard import Allowed

PACKAGES = ("starlette", "uvicorn")
CONNECTIONS = 256  # at once; more get 503
CLOSING = 3  # seconds for answers that run when the server closes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Start a server that OpenAI clients can use (/v1/chat/completions, /v1/models) and that shows a chat "
        "page at /. Control-C stops it.\n"
        "The server gives one answer at a time. A conversation that continues is not read again from its start.\n"
        "There is no password. If you let it listen beyond this machine, it answers everybody who can reach it."
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder that `gemma-edge export` wrote")
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="the IP address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=int, default=8080, metavar="N", help="the port to listen on; 0 takes a free one (default: 8080)"
    )
    add_context(parser)
    parser.add_argument(
        "--max-tokens", type=int, default=4096, metavar="N", help="the longest answer, in tokens (default: 4096)"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=600,
        metavar="S",
        help="the longest time for waiting and answering together, in seconds (default: 600)",
    )
    parser.add_argument("--seconds", dest="timeout", type=float, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--queue",
        type=int,
        default=16,
        metavar="N",
        help="how many requests may wait before others get the status 429 (default: 16)",
    )
    parser.add_argument("--waiting", dest="queue", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--max-body", type=int, default=2048, metavar="KB", help="the largest request, in kilobytes (default: 2048)"
    )
    parser.add_argument(
        "--trust-control-tokens",
        action="store_true",
        help="read control tokens such as <turn|> in messages as tokens, not as text",
    )
    add_threads(parser)
    add_engine(parser)
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let web pages of this origin use the server, for example http://localhost:3000 (may be repeated)",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="accept requests to this host name, for example host.docker.internal (may be repeated)",
    )


def run(args: argparse.Namespace) -> int:
    check_installed(PACKAGES, "serve", "serve")
    from ..serve.app import Server
    from ..serve.guard import Allowed

    limits = checked_limits(args)
    with bound(args.host, args.port) as listener:
        loopback = ip_address(listener.getsockname()[0]).is_loopback
        allowed = Allowed.of(loopback, args.allow_host, args.allow_origin)
        with Model.open(args.bundle, engine=args.engine, threads=args.threads, context=args.context) as model:
            print_notices(model.bundle)
            print_shortened(model, args.context)
            session = model.session(trust_control_tokens=args.trust_control_tokens)
            serve(Server(session, model_name(args.bundle), limits), listener, allowed)
    return 0


def checked_limits(args: argparse.Namespace) -> Limits:
    """Raises GemmaError for limits that let nothing through."""
    from ..serve.app import Limits

    for name, value in {"max-tokens": args.max_tokens, "timeout": args.timeout, "max-body": args.max_body}.items():
        if not 0 < value < float("inf"):
            raise GemmaError(f"--{name} must be more than 0, not {value}", "leave it out")
    if args.queue < 0:
        raise GemmaError(f"--queue must be 0 or more, not {args.queue}", "leave it out")
    return Limits(args.queue, args.max_tokens, args.timeout, args.max_body * 1024)


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the address and does not listen yet.  Raises GemmaError where it can not have it."""
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise GemmaError(f"--host must be an IP address, not {host}", "give 127.0.0.1, or ::1") from error
    if not 0 <= port < 65536:
        raise GemmaError(f"--port must be 0 to 65535, not {port}", "0 takes a free one")
    listener = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        raise GemmaError(
            f"cannot listen on {host} port {port}: {error.strerror}", "give another --port; 0 takes a free one"
        ) from error
    return listener


def model_name(folder: Path) -> str:
    """How clients call the model: the bundle's name."""
    return folder.resolve().name.removesuffix(".bundle")


def serve(server: Server, listener: socket.socket, allowed: Allowed) -> None:
    """Answer until control-C."""
    host, port = listener.getsockname()[:2]
    if not allowed.loopback:
        print(f"{host}: whoever reaches this machine can ask; there is no password", file=sys.stderr)
    name = f"[{host}]" if ":" in host else host
    listener.listen(CONNECTIONS)  # before the address is told: who asks at once waits, and is not refused
    print(f"{server.model} at http://{name}:{port}", flush=True)
    try:
        web_server(server, allowed).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has closed, and passes the signal on
        print("closed", file=sys.stderr)


def web_server(server: Server, allowed: Allowed) -> uvicorn.Server:
    import uvicorn

    from ..serve.app import make_app

    config = uvicorn.Config(
        make_app(server, allowed),
        http="h11",
        ws="none",
        lifespan="on",
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=CLOSING,
        limit_concurrency=CONNECTIONS,
    )
    return uvicorn.Server(config)
