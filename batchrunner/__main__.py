"""`python -m batchrunner`."""

import os
import sys

# `-m` looks for modules in the working directory first, and there lie the job files of who knows whom: no code from there.
if sys.path and os.path.realpath(sys.path[0]) == os.path.realpath(os.curdir):
    del sys.path[0]

from batchrunner.cli import main

if __name__ == "__main__":
    main()
