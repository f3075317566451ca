"""Train, validation and holdout: how they are cut, and the tests that nothing leaks between them."""
