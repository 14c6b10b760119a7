"""Configures every migration run, of Ampho and of plain Alembic. What you change here takes effect."""

import asyncio

from alembic import context
from sqlalchemy import Connection

from ampho import environment


def run_migrations(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        # The models' tables, a transaction for each revision, and what was passed to AsyncAmpho(...). Further
        # arguments of configure() go here, such as include_object=... or version_table="...", and take precedence.
        **environment.options(),
    )
    with context.begin_transaction():
        context.run_migrations()


def main() -> None:
    # The connection that Ampho hands over, made by run_sync() in the loop of the app.
    with environment.connect() as connection:
        run_migrations(connection)


async def main_async() -> None:
    # Plain Alembic has no connection, and gets one of the app's async engine.
    async with environment.connect_async() as connection:
        await connection.run_sync(run_migrations)


if environment.is_async():
    asyncio.run(main_async())
else:
    main()
