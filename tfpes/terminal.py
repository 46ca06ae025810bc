"""What is printed: names and messages as they are, whatever they hold."""

from typing import Any

from rich.console import Console
from rich.text import Text


class PlainConsole(Console):
    """A console that takes no text for markup, and sends no control characters.

    Names of files, of configurations and in messages come from anywhere: square
    brackets in them are no styles, and escape sequences do nothing to a terminal.

    Args:
        stderr: print to standard error.
        **options: of ``rich.console.Console``.
    """

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        """Switch off what changes text."""
        options = {"markup": False, "highlight": False, "emoji": False, **options}
        super().__init__(stderr=stderr, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of what can be printed."""
        return super().render_str(printable(text), **options)


def printable(text: str) -> str:
    r"""Write characters that do something to a terminal as ``\x1b`` and the like.

    Example:
        >>> printable("an \x1b[31mH\u2082 molecule")
        'an \\x1b[31mH₂ molecule'
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in text
    )
