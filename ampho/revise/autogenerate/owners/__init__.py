"""Which package owns a table, a column, or another object of the models or of the database.

The owners follow from the models, the modules that declare the objects, the revision files, and the configuration. What
differs between the models and the database is not decided here.
"""
