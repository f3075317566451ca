"""The group of all commands: sections in its help, and JSON for errors of usage."""

from typing import Any

import click

from flows.cli.output import describe_error, wants_json, write_document


class Program(click.Group):
    """Commands by section, in the order in which people need them."""

    sections: dict[str, tuple[str, ...]]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for heading, names in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), self.commands[name].get_short_help_str(80)) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        words = [*ctx._protected_args, *ctx.args]
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if wants_json(words):
                command = words[0] if words[0] in self.commands else None
                write_document(
                    command, {"error": describe_error("UsageError", error.format_message(), error.exit_code)}
                )
            raise
