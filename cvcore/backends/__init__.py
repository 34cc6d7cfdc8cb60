"""Where a run trains when nobody waits for it: a worker process on this machine."""

from cvcore.backends.local import launch, resume

__all__ = ["launch", "resume"]
