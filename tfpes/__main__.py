"""``python -m tfpes`` is the command ``tfpes``."""

from tfpes_command import main

main()
