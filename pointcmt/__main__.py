"""`python -m pointcmt`: the same as the `pointcmt` command."""


def main() -> None:
    """Run the command line. Spawned workers import this module: importing must do nothing."""
    from pointcmt.cli import main as run

    run()


if __name__ == "__main__":
    main()
