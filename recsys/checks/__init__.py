"""Checks the data of a snapshot against rules, and puts lines that break one into quarantine.

Reading a source belongs in `recsys.ingest`, the check of tables before publication in `recsys.warehouse.audit`.
"""
