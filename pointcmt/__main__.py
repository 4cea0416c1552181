"""`python -m pointcmt`: the same as the `pointcmt` command."""


def main() -> None:
    """The entry point. Spawned workers import this module again: it does nothing until called."""
    from pointcmt.cli import main as run

    run()


if __name__ == "__main__":
    main()
