"""CPU time and memory: of a process with its family, and of the whole machine."""

from __future__ import annotations

import psutil


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process, its descendants and its ended children have used."""
    root = psutil.Process(pid)
    own = root.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in root.children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return float(total)


def machine_busy_seconds() -> float:
    """Return the CPU time all cores have worked since they started, for any process."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # On Linux a guest's time is in user and nice already.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guests)


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants."""
    root = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [root, *root.children(recursive=True)])


def parent_of(pid: int) -> int:
    """Return the parent process of a process."""
    return int(psutil.Process(pid).ppid())
