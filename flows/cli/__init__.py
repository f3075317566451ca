"""The command line `recsys`, a module per group of commands. Commands parse, call `recsys` or a flow, and print."""
