"""Helpers of the tests. Look here before you write one.

Data
    planted         small planted data as tensors, and quick networks trained on them
    catalogues      a few movies, users and ratings on which the effect of each rule can be worked out by hand
    archives        sources in every layout, whole or with broken lines; stand-ins for real archives
    snapshots       snapshots from plain rows, in which a test breaks one row and checks which line is reported
    bad_inputs      each kind of bad input of docs/data.md, written with spoiling
    spoiling        good data, and ways to spoil them
    hostile         crafted archives and folders: bombs, traversal, links
    flips           single changed bits in files

Nights
    nights          a night in this process, step by step: prepare, publish_night, write_source
    quick_nights    whole nights in separate processes, which can be killed at a line of the log
    trainings       a training in a separate process, which can be killed in the middle of an epoch
    warehouses      nights of any size to publish
    publishing      processes that publish, read and hold a warehouse
    consumers       the nights on which the queries of docs/consumers.md run
    rankers         histories and rankers of a few rows
    validators      a cheap validator for tests whose subject is not Great Expectations

Real servers
    serving         `recsys serve` on a free port, with a home of its own
    servers         a web server that misbehaves on request, and a proxy
    sinks           a web server and a mail server that keep the alerts they receive
    postgres        a PostgreSQL server on loopback
    browser         the Chromium of the system

The run itself
    groups          which tests share a worker, and which files are slow

Fixtures for all tests are in tests/conftest.py: home, served_night, stand_ins, real_archive, two_threads.
"""
