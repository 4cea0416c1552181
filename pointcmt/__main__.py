"""`python -m pointcmt`: the same as the `pointcmt` command."""

from pointcmt.cli import main

if __name__ == "__main__":
    main()
