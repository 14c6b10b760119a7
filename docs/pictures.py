"""Make the pictures of the concepts from real runs: ``python docs/pictures.py``.

Each is what ``ampho db-graph --format svg`` draws of the shop in ``examples/shop``, on a database in some state.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "pictures"
SHOP = HERE.parent / "examples" / "shop"
AMPHO = Path(sys.executable).parent / "ampho"
PICTURES = {
    "shop.svg": [("db-graph", "--no-database", "--format", "svg")],
    "shop-half.svg": [("db-up", "orders_1767693600"), ("db-graph", "--format", "svg")],
}
"""The files, in the order of the making, and the commands, of which the last one draws."""


def pictures() -> dict[str, str]:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        shop = Path(temporary) / "shop"
        shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns("instance", "__pycache__"))
        return {name: [ampho(shop, *command) for command in commands][-1] for name, commands in PICTURES.items()}


def ampho(shop: Path, *args: str) -> str:
    """Run a command on the shop, and return its standard output."""
    environment = {**os.environ, "AMPHO_APP": "flask_app", "NO_COLOR": "1"}
    done = subprocess.run([AMPHO, *args], cwd=shop, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"ampho {' '.join(args)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures().items():
        (FOLDER / name).write_text(picture, "utf-8")
