"""Configures every migration run. You can edit this file; Ampho and plain Alembic both use it."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from ampho import environment


def run_migrations(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        # The metadata of the models, a transaction for each revision, and the arguments of AsyncAmpho(...). Add other
        # arguments of configure() here, such as include_object=... or version_table="..."; they take precedence.
        **environment.options(),
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    # Ampho passes its own connection, and calls this with run_sync() in the app's event loop.
    with environment.connect() as connection:
        run_migrations(connection)


async def main_async() -> None:
    # Plain Alembic has no connection, so it gets one from the app's async engine.
    async with environment.connect_async() as connection:
        await connection.run_sync(run_migrations)


if environment.is_async():
    asyncio.run(main_async())
else:
    main()
