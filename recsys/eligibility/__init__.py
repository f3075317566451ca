"""Which movies may be shown to whom: rules as somebody gives them, and as ranking applies them."""
