"""A server that speaks Oracle's network protocol to the real thin driver, with a small database behind it.

No Oracle Database can be part of `make test`. The driver can: here it logs in, binds, fetches and loses its connection
as it would against a real server, and every statement is judged by its own text. In layers:

    packets, values   TNS packets and the fields and values in them
    session, server   one connection's conversation (TTC), and the listener
    faults            cuts, refusals and delays on the wire, at a chosen moment
    definitions       tables, constraints and indexes, read from the DDL that arrives
    dictionary        what Oracle documents: views and their columns, functions, packages, lexers; each with its source
    typing, binds     names and types of a statement by the tables' definitions; binds against where they go
    statements        a statement as SQLite runs it
    blocks            PL/SQL, as far as the scripts use it
    database          sessions, transactions, locks and rows

It proves what the program sends and how it deals with what comes back. It does not prove plans, speed, privileges, or
what Oracle does beyond its documents: docs/oracle.md has the commands to run on a real server for that.
"""
