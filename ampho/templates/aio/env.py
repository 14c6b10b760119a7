"""Configures every migration run, of Ampho and of plain Alembic. What you change here takes effect."""

import asyncio

from alembic import context

from ampho import environment


def run_migrations(connection):
    context.configure(
        connection=connection,
        # The models' tables, a transaction for each revision, and what was passed to AsyncAmpho(...). Further
        # arguments of configure() go here, such as include_object=... or version_table="...".
        **environment.options(),
    )
    with context.begin_transaction():
        context.run_migrations()


async def run_async_migrations():
    async with environment.connect_async() as connection:
        await connection.run_sync(run_migrations)


if environment.is_async():
    # Plain Alembic has no connection, and gets one of the app's async engine.
    asyncio.run(run_async_migrations())
else:
    # Ampho has one already, made by run_sync() in the loop of the app.
    with environment.connect() as connection:
        run_migrations(connection)
