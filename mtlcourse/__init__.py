"""mtlcourse: safe, conflict-aware multi-task learning, as a course and as a lean PyTorch core.

Submodules are imported where they are used (`from mtlcourse import data, models, training`), so that
the command line answers before torch is loaded.
"""

__version__ = "0.1.0"
