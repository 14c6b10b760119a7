"""Groups of databases of one kind, such as one for each tenant: listing them, surveying them, and upgrading them.

What is done with one database does not belong here, but into ``migrate`` and ``status``.
"""
