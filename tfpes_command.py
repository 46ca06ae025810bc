"""The command ``tfpes``: what TensorFlow reads when it is loaded, then the app.

No module of the package, because importing the package loads TensorFlow.
"""

import os


def main() -> None:
    """Set what the user has not set, and run the command."""
    # Memory is kept from step to step: given back, as by default, it costs a page fault
    # for each 4 kB of the next step, up to half of its time.
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    if hasattr(os, "sysconf"):
        # All of the machine's, instead of TensorFlow's limit of 64 GB.
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(memory >> 20))
    from tfpes.cli import app

    app()
