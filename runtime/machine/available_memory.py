"""How many bytes this process can still take."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """Bytes that this process can still take: of the machine, and of every control group it is in."""
    return min([machine_room(), *group_rooms()])


def machine_room() -> int:
    """Linux says what is available; elsewhere it is all there is."""
    if sys.platform == "linux":
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available_line = next((line for line in lines if line.startswith("MemAvailable:")), None)
        if available_line:
            return int(available_line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def group_rooms(groups: Path = GROUPS, own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What the limits of control groups (version 2, or 1) leave; file pages that can go do not count."""
    if not own.is_file():
        return []
    rooms = []
    for line in own.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        root = groups if controllers == "" else groups / "memory"
        folder = root / path.lstrip("/")
        for place in [folder, *folder.parents]:
            if place.is_relative_to(root) and (room := group_room(place)) is not None:
                rooms.append(room)
    return rooms


def group_room(folder: Path) -> int | None:
    """None without a limit."""
    for limit, used, idle in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if not (folder / limit).is_file() or not (folder / used).is_file():
            continue
        most = (folder / limit).read_text(encoding="ascii").strip()
        if most == "max":
            return None
        stats = (
            (folder / "memory.stat").read_text(encoding="ascii").split() if (folder / "memory.stat").is_file() else []
        )
        reclaimable = int(stats[stats.index(idle) + 1]) if idle in stats else 0
        return max(0, int(most) - int((folder / used).read_text(encoding="ascii")) + reclaimable)
    return None
