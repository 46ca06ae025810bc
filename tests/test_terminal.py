"""What is printed holds no styles and no control characters of others."""

import io

from rich.table import Table

from tfpes.terminal import PlainConsole, printable


def test_printable():
    assert printable("H₂O é\n\tZ") == "H₂O é\n\tZ"
    assert printable("\x1b]0;x\x07\x9b31m\r\x00") == r"\x1b]0;x\x07\x9b31m\r\x00"
    assert printable("\ud800") == r"\ud800"


def test_names_are_text():
    name = "[/x] o[old] [bold]b[/] :smile: \x1b[31mred"
    text = io.StringIO()
    console = PlainConsole(file=text, force_terminal=True, width=200)
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    for content in (name, table):
        console.print(content)
    shown = text.getvalue()
    assert shown.count(name.replace("\x1b", r"\x1b")) == 4
    assert "\x1b[31m" not in shown
