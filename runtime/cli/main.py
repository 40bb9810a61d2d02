"""`gemma-edge`, the front door: a table of commands, imported when asked for.

Heavy commands are named by strings, so that `gemma-edge run` never loads torch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

from ..errors import GemmaError
from ..machine.tune import tune
from ..needs import needs
from .flags import explained

COMMANDS = {
    "export": ("export.cmd_export", "make a bundle from a checkpoint"),
    "run": ("runtime.cli.cmd_run", "answer a prompt, or chat"),
    "serve": ("runtime.cli.cmd_serve", "start a server for OpenAI clients, with a chat page"),
    "bench": ("runtime.cli.cmd_bench", "measure speed and memory on this machine"),
    "eval": ("runtime.cli.cmd_eval", "measure how much quality a bundle has lost"),
    "inspect": ("runtime.cli.cmd_inspect", "explain a checkpoint or a bundle"),
    "verify": ("runtime.cli.cmd_verify", "check a bundle: its hashes and its golden answers"),
    "synth": ("export.cmd_synth", "write a checkpoint of random values"),
}
WIDEST = 100  # columns of help, however wide the terminal is


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 (refused, one sentence), 2 (usage) or 130 (interrupted)."""
    tune()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return dispatch(words)
    except GemmaError as error:
        print(f"error: {explained(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def dispatch(words: list[str]) -> int:
    if words[:1] and words[0] in COMMANDS:
        module = needs(COMMANDS[words[0]][0], "export", words[0])
        parser = argparse.ArgumentParser(prog=f"gemma-edge {words[0]}", formatter_class=Help)
        module.add_arguments(parser)
        parse = getattr(module, "parse", argparse.ArgumentParser.parse_args)
        return int(module.run(parse(parser, words[1:])))
    front_parser().parse_args(words)
    front_parser().print_help()
    return 2


def front_parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:9}{summary}" for name, (_, summary) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="gemma-edge",
        formatter_class=Help,
        description="Run Gemma 4 on a phone or a laptop.",
        epilog=f"commands:\n{lines}\n\n`gemma-edge COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="the command, see below")
    return parser


def version() -> str:
    from importlib.metadata import version as installed

    return f"gemma-edge {installed('gemma-edge')}"


class Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal, up to WIDEST columns; each line of a description is a paragraph."""

    def __init__(self, prog: str) -> None:
        columns = shutil.get_terminal_size().columns
        super().__init__(prog, max_help_position=28, width=min(columns, WIDEST) - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wraps the lines of a text; those that are indented, as in a table, stay as they are."""
        return "\n".join(
            line if line.startswith(" ") else textwrap.fill(line, width, initial_indent=indent)
            for line in text.splitlines()
        )

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Names of an option as Python 3.13 writes them, `-o, --output BUNDLE`, whatever the Python."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        names = ", ".join(action.option_strings)
        return f"{names} {self._format_args(action, self._get_default_metavar_for_optional(action))}"
