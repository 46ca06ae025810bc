"""``python -m tfpes`` is the command ``tfpes``."""

from tfpes_command import main

if __name__ == "__main__":
    main()
