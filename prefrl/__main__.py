"""`python -m prefrl`: the same as the command `prefrl`."""

import os
import sys

# Python puts the working folder first, from which `prefrl play .` would import whatever a run's folder holds.
if __name__ == "__main__" and not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):
    del sys.path[0]

from prefrl.commands.cli import main

if __name__ == "__main__":  # a spawned learner imports this module anew
    main()
