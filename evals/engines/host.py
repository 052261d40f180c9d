"""What an engine's process knows about the machine and itself."""

from pathlib import Path


def device_name(*, cpu: bool) -> str:
    """Returns the device model as the system names it."""
    if not cpu:
        import torch

        return torch.cuda.get_device_name()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    import platform

    return platform.machine()


def peak_bytes() -> int:
    """Returns the peak resident memory of this process so far."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def start_time(pid: int) -> str | None:
    """Returns what tells a process from a later one with the same number: boot and start tick; None if it is gone or a
    zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
