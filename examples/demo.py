"""Walk through Ampho with the shop beside this file: once as a Flask app, once as a Quart app, on SQLite.

Everything happens in a temporary folder, with the commands that a person would type. Exits with 1 if one of them does
something else than it should.
"""

import asyncio
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SHOP = Path(__file__).with_name("shop")
AMPHO = shutil.which("ampho", path=Path(sys.executable).parent)

# Method, path, what is sent, and what the answer must be.
ORDER = {"email": "Ada@example.org", "name": "Ada", "isbn": "9781473216068", "quantity": 2}
PLACE_ORDER = ("POST", "/orders", ORDER, {"order": 1, "left": 8})
LIST_ORDERS = ("GET", "/orders/ada@example.org", None, [{"order": 1, "quantity": 2, "title": "The Dispossessed"}])


class UnexpectedError(Exception):
    """The walk does not go as it should."""


def main():
    heading("The shop: three packages, and 'orders' depends on 'accounts' and 'catalog'")
    with tempfile.TemporaryDirectory(prefix="ampho-demo-") as folder:
        try:
            for framework in ("flask", "quart"):
                walk(framework, Path(folder, framework))
        except UnexpectedError as error:
            sys.exit(f"\nThis is not as it should be: {error}")
    print("\nBoth apps did the same, with the same packages. The code is in examples/shop.")


def walk(framework, folder):
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("instance", "__pycache__"))
    shop = Shop(folder, f"{framework}_app")
    heading(f"{framework.capitalize()}: {shop.module}.py, on a fresh SQLite database")
    shop.say(f"export AMPHO_APP={shop.module}")

    shop.ampho("db-graph", expect="orders_1767693600 .* accounts_1767607200, catalog_1767690000")
    shop.ampho("db-up --plan orders", expect="accounts_1767607200 +accounts +required by orders_1767693600")
    shop.ampho("db-up", expect="Applied 7 revisions")
    shop.ampho("db-status", expect="The database is up to date with the code")

    heading("A request that writes, and one that reads")
    shop.requests(PLACE_ORDER, LIST_ORDERS)

    heading("Accounts cannot go while orders need them")
    shop.ampho("db-down accounts@base", expect="orders_1767693600.*--cascade", exit_code=1)

    heading("The SQL of a step, which only prints it")
    shop.ampho("db-down -s orders@-1", expect="DROP INDEX ix_orders_customer_id_placed_at")

    heading("One step of one package, down and up: SQLite builds the table anew, and no order is lost")
    shop.ampho("db-down catalog@-1", expect="Reverted 1 revision")
    shop.ampho("db-current", expect="catalog +catalog_1767690000 .1 pending..*orders +orders_1769421600 .head.")
    shop.ampho("db-up", expect="Applied 1 revision")
    shop.requests(LIST_ORDERS)


class Shop:
    """A copy of the shop, served by one framework."""

    def __init__(self, folder, module):
        self.folder = folder
        self.module = module
        foreign = re.compile("(AMPHO|FLASK|QUART|SQLALCHEMY|SHOP)_")
        self.environment = {name: value for name, value in os.environ.items() if not foreign.match(name)}
        self.environment |= {"AMPHO_APP": module, "PYTHONUTF8": "1"}

    def say(self, command):
        print(f"\n$ {command}", flush=True)

    def ampho(self, arguments, *, expect, exit_code=0):
        """Run a command of Ampho, show what it prints, and check that it is what is expected."""
        self.say(f"ampho {arguments}")
        done = self.run([AMPHO, *shlex.split(arguments)])
        print(done.stdout.strip(), flush=True)
        if done.returncode != exit_code:
            raise UnexpectedError(f"exit code {done.returncode}, where {exit_code} is right")
        if not re.search(expect, done.stdout, re.DOTALL):
            raise UnexpectedError(f"the output has no {expect!r}")

    def requests(self, *wanted):
        """Send requests to the app's test client, in a process of its own, and check the answers."""
        done = self.run([sys.executable, __file__, self.module, json.dumps([request[:3] for request in wanted])])
        if done.returncode:
            raise UnexpectedError(done.stdout)
        for (method, path, body, expected), answer in zip(wanted, done.stdout.splitlines(), strict=True):
            print(f"\n> {method} {path}", *[json.dumps(body)] if body else [])
            print(answer, flush=True)
            if json.loads(answer) != expected:
                raise UnexpectedError(f"the answer is not {expected}")

    def run(self, command):
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )


def heading(text):
    print(f"\n{text}\n{'-' * len(text)}")


def answer(module, requests):
    """Print what an app answers to requests, a line for each."""
    sys.path.insert(0, str(Path.cwd()))
    app = importlib.import_module(module).app
    send = send_to_quart if module == "quart_app" else send_to_flask
    for text in send(app, json.loads(requests)):
        print(text.strip())


def send_to_flask(app, requests):
    client = app.test_client()
    return [client.open(path, method=method, json=body).text for method, path, body in requests]


def send_to_quart(app, requests):
    async def send():
        async with app.test_app() as test_app:
            client = test_app.test_client()
            responses = [await client.open(path, method=method, json=body) for method, path, body in requests]
            return [await response.get_data(as_text=True) for response in responses]

    return asyncio.run(send())


if __name__ == "__main__":
    answer(*sys.argv[1:]) if len(sys.argv) > 1 else main()
