"""The command line `recsys`, a module for each group of commands: they parse, call `recsys` or a flow, and print."""
