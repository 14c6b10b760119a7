"""The revision files of all packages, and the graph that they form.

What is here reads files and answers questions about them: packages, revisions, specifiers, and what a file may lose.
It connects to no database, and writes nothing.
"""
