"""`python -m interp.cli` is `interp`."""

from interp.cli import main

if __name__ == "__main__":
    main()
