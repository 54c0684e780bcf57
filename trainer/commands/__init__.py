"""What `python -m trainer` can do, by subject."""

import argparse
from collections.abc import Callable
from typing import Any


def add(commands: Any, name: str, command: Callable | None, help: str = "") -> argparse.ArgumentParser:
    """A subcommand; its help is the first line of the function that carries it out."""
    said = help or (command.__doc__ or "").split("\n")[0]
    new = commands.add_parser(name, help=said, description=said)
    if command:
        new.set_defaults(command=command)
    return new
