"""Commands whose errors are one clear line, and that refuse an option with two values."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tryage.cli.output import print_error

_ClickError: Any = typer.BadParameter.mro()[2]
"""The base of all errors in the use of commands, which Typer does not export."""


class Command(TyperCommand):
    """A command; of an option with one value, two values are an error."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; raises a usage error that names both values."""
        options = {name: option for option in self.get_params(ctx) for name in option.opts}
        values: dict[str, str] = {}
        rest = iter(args)
        for arg in rest:
            if arg == "--":
                break
            name, sign, value = arg.partition("=")
            option: Any = options.get(name)
            if option is None or option.param_type_name != "option" or option.is_flag:
                continue
            value = value if sign else next(rest, "")
            first = values.setdefault(name, value)
            if first != value and not option.multiple:
                ctx.fail(f"{name} is given twice, as {first!r} and as {value!r}; keep one")
        return super().parse_args(ctx, args)


class Group(TyperGroup):
    """A group of commands that prints errors in one line."""

    def main(self, *args: Any, **more: Any) -> Any:
        """Run a command; exits with its code, 2 for an error in its use."""
        whole = {**more, "standalone_mode": False}
        if not more.get("standalone_mode", True):
            return super().main(*args, **whole)
        try:
            code = super().main(*args, **whole)
        except _ClickError as error:
            # Where a command got no arguments, its help has been printed.
            if type(error).__name__ != "NoArgsIsHelpError":
                message = " ".join(error.format_message().split())
                command = getattr(error.ctx, "command_path", "tryage")
                print_error(f"{message.rstrip('.')}; see {command} --help")
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, typer.Abort):
            print_error("interrupted")
            sys.exit(130)
        sys.exit(code if isinstance(code, int) else 0)
