"""What a measurement was made on, for its report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from serve.runtime.session import available_cpus


def describe_machine(*packages: str) -> str:
    """One sentence: Python, the packages that are installed, CPUs."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    cpus = f"{available_cpus()} CPUs ({platform.machine()})"
    return f"Python {platform.python_version()}, {', '.join(found)}; {cpus}."
