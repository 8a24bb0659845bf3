"""`python -m prefrl`: the same as the command `prefrl`."""

from prefrl.cli import main

if __name__ == "__main__":  # a spawned learner imports this module anew
    main()
