"""Texts of a source, for a terminal."""


def printable(text: str) -> str:
    """`text` with what would steer a terminal, or turn the direction of writing, as escapes: \\x1b."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
