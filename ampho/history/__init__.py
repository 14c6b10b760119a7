"""The revision files of all packages, and the graph that they form.

The modules read packages and their revisions, resolve specifiers, and find out what data a revision removes. They do
not connect to a database, and do not write anything.
"""
