"""Groups of databases of one kind, such as one for each tenant: how the app lists them, and what their states are."""
