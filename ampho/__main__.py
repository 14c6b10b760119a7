"""``python -m ampho``: the same as the console script ``ampho``."""

from ampho.cli import main

if __name__ == "__main__":
    main()
