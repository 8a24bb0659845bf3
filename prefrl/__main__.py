"""`python -m prefrl` runs the command `prefrl`."""

import os
import sys

# Python puts the working folder first in sys.path, so that `prefrl play .` would import modules from a run's folder.
if __name__ == "__main__" and not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):
    del sys.path[0]

from prefrl.commands.start import main

if __name__ == "__main__":  # a spawned learner process imports this module again
    main()
