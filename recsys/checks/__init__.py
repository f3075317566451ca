"""Checks the data of a snapshot against rules, and moves lines that break a rule to the quarantine.

Reading a source belongs in `recsys.ingest`; checking tables before publication belongs in `recsys.warehouse.audit`.
"""
