"""The command line `recsys`, with one module per group of commands.

A command parses its arguments, calls `recsys` or a flow, and prints the result.
"""
