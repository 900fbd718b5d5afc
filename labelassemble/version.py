"""The version, from the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("labelassemble")
except PackageNotFoundError:  # the source tree on the path, nothing installed
    __version__ = "0+unknown"
