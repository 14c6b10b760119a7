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
SHOP = HERE.parent / "examples" / "shop"
AMPHO = Path(sys.executable).parent / "ampho"
PICTURES = {
    "shop-pending.svg": None,
    "shop-half.svg": "orders_1767693600",
    "shop-applied.svg": "heads",
}
"""The files, in the order of the making, and what is upgraded to before each."""


def main() -> None:
    """Write all pictures."""
    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        shop = Path(temporary) / "shop"
        shutil.copytree(SHOP, shop, ignore=shutil.ignore_patterns("instance", "__pycache__"))
        for name, specifier in PICTURES.items():
            if specifier:
                ampho(shop, "db-up", specifier)
            (folder / name).write_text(ampho(shop, "db-graph", "--format", "svg"), "utf-8")


def ampho(shop: Path, *args: str) -> str:
    """Run a command on the shop, and return its standard output."""
    environment = {**os.environ, "AMPHO_APP": "flask_app", "NO_COLOR": "1"}
    done = subprocess.run([AMPHO, *args], cwd=shop, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"ampho {' '.join(args)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
