"""``python -m sendtrace``: the same as the ``sendtrace`` command."""

from sendtrace.cli import main

if __name__ == "__main__":
    main()
