"""Makes the texts of a source safe for a terminal."""


def printable(text: str) -> str:
    """Returns `text` with control characters escaped (\\x1b), including those that change the text direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
