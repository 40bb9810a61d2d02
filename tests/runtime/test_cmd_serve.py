"""`gemma-edge serve`: from its words to a server that listens."""

from __future__ import annotations

import argparse
import socket

import pytest

from runtime.cli import cmd_serve
from runtime.cli.main import main
from runtime.serve.guard import Allowed


class Web:
    """A web server that ends at once."""

    def run(self, sockets):
        assert sockets


@pytest.fixture
def started(monkeypatch):
    """What a web server would be made with."""
    asked: list[Allowed] = []

    def web_server(server, allowed):
        asked.append(allowed)
        return Web()

    monkeypatch.setattr(cmd_serve, "web_server", web_server)
    return asked


def test_the_address_is_told_when_it_listens(bundle, monkeypatch, started):
    answered = []

    def told(line, **_):
        port = int(line.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5):
            answered.append(port)

    monkeypatch.setattr(cmd_serve, "print", told, raising=False)
    assert main(["serve", str(bundle("e2b")), "--port", "0"]) == 0
    assert len(answered) == 1


def test_hosts_and_origins_that_are_allowed_reach_the_server(bundle, started):
    words = ["--allow-host", "Host.docker.internal", "--allow-host", "box", "--allow-origin", "app://obsidian.md"]
    assert main(["serve", str(bundle("e2b")), "--port", "0", *words]) == 0
    assert started == [Allowed(True, frozenset(("host.docker.internal", "box")), frozenset(("app://obsidian.md",)))]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--allow-origin", "*"], "* is not the origin of a page"),
        (["--allow-host", "a:80"], "a:80 is not the name of a host"),
    ],
)
def test_what_no_browser_sends_is_refused(bundle, started, capsys, words, said):
    assert main(["serve", str(bundle("e2b")), "--port", "0", *words]) == 1
    assert said in capsys.readouterr().err
    assert started == []


@pytest.mark.parametrize("words", [["--queue", "3", "--timeout", "2.5"], ["--waiting", "3", "--seconds", "2.5"]])
def test_the_names_that_options_had_before_still_work(words):
    parser = argparse.ArgumentParser()
    cmd_serve.add_arguments(parser)
    limits = cmd_serve.checked_limits(parser.parse_args(["x.bundle", *words]))
    assert (limits.waiting, limits.seconds) == (3, 2.5)
    assert "--waiting" not in parser.format_help()
