"""`python -m cian`."""

from cian.cli import main

if __name__ == "__main__":
    main()
