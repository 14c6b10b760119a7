"""The revision files of all packages, and the graph that they form.

These modules read packages and their revisions, resolve specifiers, and find the data that a revision removes. They do
not connect to a database or write files.
"""
