"""``python -m pyxenevtchn``: the xenevtchn command."""

from .cli import main

if __name__ == "__main__":
    main()
