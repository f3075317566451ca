"""Makes the texts of a source safe for a terminal and for a log."""

import logging

INDENT = "    "  # of further lines, so that they do not look like another message


def printable(text: str) -> str:
    """Returns `text` with control characters escaped (\\x1b), including those that change the text direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def printable_lines(text: str) -> str:
    """Returns `text` with the control characters of each line escaped. Lines after the first are indented."""
    return f"\n{INDENT}".join(map(printable, text.split("\n")))


class Escaping(logging.Filter):
    """Escapes the control characters of every message that a handler gets."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if not message.isprintable():
            record.msg, record.args = printable_lines(message.replace(f"\n{INDENT}", "\n")), ()
        return True
