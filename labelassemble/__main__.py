"""``python -m labelassemble``: the command line."""

from labelassemble.cli import main

if __name__ == "__main__":
    main()
