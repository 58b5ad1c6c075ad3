"""Commands and groups of commands, as `birdnet-fs train` and `birdnet-fs motifs extract`; renamed ones are refused."""

from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from birdnet_fs.cli.document_words import refuse_document_groups, refuse_document_words
from birdnet_fs.core.renamed import refuse_option, refuse_verb


class VerbGroup(TyperGroup):
    """Group of verbs that refuses a renamed verb with its new name, and shows its help when no verb is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments before the verb."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb of the arguments."""
        refuse_verb(" ".join([*_path(ctx), args[0]]))
        refuse_document_groups([*_path(ctx), *args])
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the verbs in the order in which they were added, then those of the groups."""
        return sorted(self.commands, key=lambda name: isinstance(self.commands[name], TyperGroup))


class Verb(TyperCommand):
    """Verb that refuses a renamed option with its new name, and words of other programs with the line to type."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the verb."""
        if ctx.resilient_parsing:  # completion in a shell, which prints nothing else
            return super().parse_args(ctx, args)
        given, verb = args[: args.index("--") if "--" in args else None], " ".join(_path(ctx))
        for argument in given:
            refuse_option(verb, argument)
        refuse_document_words(verb, given)
        return super().parse_args(ctx, args)


class WrappingVerb(Verb):
    """Verb that keeps the options of another verb, which it does not have, among its arguments."""

    ignore_unknown_options = True


def group(
    name: str,
    help_text: str,
    verbs: Iterable[Callable[..., None]],
    groups: Iterable[typer.Typer] = (),
    wrapping: Iterable[Callable[..., None]] = (),
) -> typer.Typer:
    """Make a group of verbs.

    Args:
        name: Word of the group on the command line; "" for the command itself.
        help_text: Purpose of the verbs, one sentence of the help.
        verbs: Functions whose arguments are those of the command line. The name of a verb is that of its function with
            hyphens for underscores.
        groups: Groups inside this one. Default: ().
        wrapping: Verbs, out of `verbs`, whose arguments are a verb with its options. Default: ().

    Returns:
        The group.
    """
    app = typer.Typer(
        name=name or None,
        cls=VerbGroup,
        help=help_text,
        add_completion=not name,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for verb in verbs:
        app.command(cls=WrappingVerb if verb in wrapping else Verb)(verb)
    for inner in groups:
        app.add_typer(inner)
    return app


def line_to_type(ctx: Any) -> str:
    """Write a verb with the arguments and options that it needs.

    Args:
        ctx: Context of the verb, as the library of the command line passes it.

    Returns:
        The line, as "birdnet-fs motifs extract RECORDINGS... --output OUTPUT".
    """
    words = [str(ctx.command_path)]
    for parameter in ctx.command.params:
        if parameter.required and parameter.param_type_name == "option":
            words.append(f"{max(parameter.opts, key=len)} {parameter.name.upper()}")
        elif parameter.required:
            words.append(parameter.metavar or parameter.name.upper())
    return " ".join(words)


def _path(ctx: Any) -> list[str]:
    """Words of a command after `birdnet-fs`."""
    return str(ctx.command_path).split()[1:]
