"""Makes the texts of a source safe for a terminal."""


def printable(text: str) -> str:
    """Returns `text` with control characters, also those that change the direction of writing, as escapes: \\x1b."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
